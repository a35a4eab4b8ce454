"""HTTP to one registry: credentials, authentication, addresses, pace, transport, and a client with one method per
endpoint.

This wing gets values and reads no variable of regnb's own.
"""

__all__ = [
    "addresses",
    "authentication",
    "cache",
    "capabilities",
    "client",
    "connections",
    "credentials",
    "exchange",
    "existence",
    "failures",
    "health",
    "incoming",
    "messages",
    "pace",
    "probe",
    "transport",
]
