"""HTTP to one registry: credentials, authentication, addresses, pace, transport, and a client with one method per
endpoint.

This wing gets values and reads no variable of regnb's own.
"""

__all__ = [
    "addresses",
    "authentication",
    "cache",
    "client",
    "credentials",
    "exchange",
    "failures",
    "health",
    "messages",
    "pace",
    "probe",
    "transport",
]
