"""HTTP to one registry: credentials, authentication, addresses, pace, transport, and a client with one method per
endpoint.

This wing gets values and reads no environment variable.
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
