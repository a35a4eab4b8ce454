"""Every error that regnb raises, each with what happened, to what, and what to do next.

RegnbError
├── InvalidReference        a name, tag or digest that the grammar forbids (also a ValueError)
├── InvalidArgument         a value that makes no sense where it was given (also a ValueError)
├── MissingExtra            an optional library is not installed (also an ImportError)
├── Refused                 a plan that could do harm: the hint says what would allow it, if anything may
│   ├── LimitExceeded       a policy that would remove more than it may
│   └── EmptyCatalog        a registry that lists no repository, although some are known
├── PlanMismatch            a plan that was edited, is another registry's, or is not the one that was confirmed
├── Busy                    another process is writing to the same repository
├── BrokenReceipt           a receipt whose lines do not follow from each other
├── UnprovenReceipt         a receipt whose signatures cannot be checked, or that has none where a key is set
├── StorageError            a folder that is not a registry, or cannot be read or written
├── ContentError            bytes that are not what they should be
│   ├── DigestMismatch      bytes whose digest is not the one asked for or announced
│   ├── MalformedManifest   verified bytes that are not a manifest, or a hostile one
│   └── TooLarge            more bytes, entries or pages than regnb accepts
└── RegistryError           a registry's answer, or its absence
    ├── ConnectionFailed    refused, unreachable, unknown host, time-out
    │   └── TLSFailed       the handshake or the certificate
    ├── NotARegistry        something answered, but it does not speak the registry API
    ├── Unauthorized        401: no or wrong credentials
    ├── Denied              403, or 401 with valid credentials: too little scope
    ├── NotFound            404, and the registry's own error says that it is not there
    ├── Unproven            an answer that may come from a proxy: it is not known whether something exists
    ├── Unsupported         405, or another refusal of an optional endpoint: the registry does not do this
    │   └── ReadOnly        405 to every write: the registry takes none
    ├── RateLimited         429 after all retries
    └── ServerFailed        5xx after all retries

KeyboardInterrupt
└── Interrupted             the user interrupted; no RegnbError, so that nothing that goes on after an error catches it
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar, Literal, Self, TypeAlias

Proof: TypeAlias = Literal["unsigned", "proven", "no key", "other key", "mixed"]
"""What the signatures of a receipt say: it has none; the key that is set here made each; they are there and no key is
set; another key made them; or only some lines are signed, or by several keys."""


class RegnbError(Exception):
    """The base of every error here.

    Args:
        message: What happened, and to what. Never holds a secret.
        hint: What to do next, or "".

    Attributes:
        advice: The hint of an error of this kind that was given none.
        receipt: The name of the receipt, where it ended the application of a plan that had begun; else "".

    Example:
        >>> str(RegnbError("no such folder: /data", hint="name the folder that holds docker/registry/v2"))
        'no such folder: /data; name the folder that holds docker/registry/v2'
    """

    advice: ClassVar[str] = ""
    receipt: str = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.advice

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what an error says, whatever its class asks for when it is made."""
        return _again, (type(self), self.args), self.__dict__

    def saying(self, message: str, *, hint: str = "") -> Self:
        """Return the same error in other words, to be raised in its place.

        Example:
            >>> str(RegnbError("404").saying("there is no tag 8.3", hint="list the tags"))
            'there is no tag 8.3; list the tags'
        """
        other = copy.copy(self)
        other.args, other.message, other.hint = (message,), message, hint or self.advice
        return other.with_traceback(self.__traceback__)

    @classmethod
    def of_lines(cls, lines: Sequence[str]) -> RegnbError:
        """Return the error that IPython printed as some lines, as a notebook keeps them.

        Example:
            >>> RegnbError.of_lines(["NotFound: no such tag", "Hint: list the tags"])
            RegnbError('no such tag')
        """
        hints = [line.removeprefix("Hint: ") for line in lines[1:] if line.startswith("Hint: ")]
        return RegnbError(lines[0].partition(": ")[2], hint="".join(hints))

    def _render_traceback_(self) -> list[str]:
        """IPython prints these lines instead of a traceback; :meth:`of_lines` reads them."""
        lines = [f"{type(self).__name__}: {self.message}"]
        if self.hint:
            lines.append(f"Hint: {self.hint}")
        if self.receipt:
            lines.append(f"Receipt: {self.receipt} says what was done; registry.resume({self.receipt!r}) goes on")
        return lines


def _again(kind: type[RegnbError], args: tuple[object, ...]) -> RegnbError:
    error = kind.__new__(kind)
    error.args = args
    return error


class InvalidReference(RegnbError, ValueError):
    """A repository, tag, digest or reference that the grammar forbids."""


class InvalidArgument(RegnbError, ValueError):
    """A value that makes no sense where it was given."""


class MissingExtra(RegnbError, ImportError):
    """A library that an optional part needs is not installed; the hint is the line that installs it."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed", hint=f"pip install 'regnb[{extra}]'")


class Refused(RegnbError):
    """What was asked for could do harm. The hint says what would allow it, if anything may.

    Attributes:
        allow: The smallest allowances that would let it through, such as ``share:vm/centos8``; () if nothing may.
    """

    def __init__(self, message: str, *, hint: str = "", allow: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.allow = tuple(allow)


class LimitExceeded(Refused):
    """A policy would leave a repository without an image, or remove more than its share of a repository's tags."""


class EmptyCatalog(Refused):
    """A registry that lists no repository, although a policy or a snapshot knows of some."""


class PlanMismatch(RegnbError):
    """A plan that was edited, that is another registry's, or that is not the one that was confirmed."""


class Busy(RegnbError):
    """Another process is writing to the same repository."""


class BrokenReceipt(RegnbError):
    """A receipt that was changed or cut after it was written."""


class UnprovenReceipt(RegnbError):
    """A receipt that was not broken, and still proves nothing.

    Attributes:
        proof: Why; "" if nothing was said about it.
    """

    def __init__(self, message: str, *, hint: str = "", proof: Proof | Literal[""] = "") -> None:
        super().__init__(message, hint=hint)
        self.proof = proof


class StorageError(RegnbError):
    """A folder that is not a registry, or cannot be read or written."""


class ContentError(RegnbError):
    """Bytes that are not what they should be."""

    advice = "read it again; if that fails too, the stored data is damaged: push the image again"


class DigestMismatch(ContentError):
    """Bytes whose digest is not the one asked for, or not the one that the server announced."""

    advice = (
        "something changed the bytes, on the way or in the storage: read it again without a proxy; if that fails too, "
        "push the image again"
    )


class MalformedManifest(ContentError):
    """Verified bytes that are not a manifest, or a manifest made to do harm."""

    advice = "push the image again with a current client, or leave it out"


class TooLarge(ContentError):
    """More bytes, entries or pages than regnb accepts."""

    advice = "this limit protects regnb from data made to fill its memory: leave this one out"


class RegistryError(RegnbError):
    """A registry's answer that is an error, or no answer at all.

    Attributes:
        status: The HTTP status, or None where there was no answer.
        codes: The body's error codes (distribution spec 1.1, "Error Codes"), such as ``MANIFEST_UNKNOWN``.
        method, url: The request, without credentials.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        status: int | None = None,
        codes: Sequence[str] = (),
        method: str = "",
        url: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.codes = tuple(codes)
        self.method = method
        self.url = url


class ConnectionFailed(RegistryError):
    """Refused, unreachable, unknown host, or no answer in time."""


class TLSFailed(ConnectionFailed):
    """The TLS handshake failed, or the certificate is not trusted."""


class NotARegistry(RegistryError):
    """Something answered, but it does not speak the registry API (an HTML page, say)."""


class Unauthorized(RegistryError):
    """401: no credentials, or wrong ones."""


class Denied(RegistryError):
    """403, or 401 although the credentials are valid: the scope is too small."""


class NotFound(RegistryError):
    """No such repository, manifest or blob: the registry itself says so, with an error code."""


class Unproven(RegistryError):
    """An answer that proves neither that something exists nor that it does not, such as a proxy's 404."""


class Unsupported(RegistryError):
    """405: the registry does not do this, or has it switched off."""


class ReadOnly(Unsupported):
    """405 to a write, in plain text: the registry takes no writes (``storage.maintenance.readonly``)."""


class RateLimited(RegistryError):
    """429, still, after every retry."""


class ServerFailed(RegistryError):
    """5xx, still, after every retry."""


class Interrupted(KeyboardInterrupt):
    """The user interrupted: a crawl goes on from the cache, the application of a plan from its receipt.

    Attributes:
        receipt: The name of that receipt, or "".
    """

    receipt: str = ""

    def __str__(self) -> str:
        known = f"Receipt {self.receipt} says what was done; resume goes on." if self.receipt else ""
        return " ".join(filter(None, (super().__str__(), known)))

    def _render_traceback_(self) -> list[str]:
        """IPython prints this line instead of a traceback."""
        return [str(self)]
