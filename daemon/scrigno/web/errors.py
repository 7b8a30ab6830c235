# SPDX-License-Identifier: Apache-2.0

"""Refusals as problem documents (RFC 9457): a stable code, never a sentence to be parsed."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from scrigno.access.errors import TooManyAttempts, WeakPassword
from scrigno.core.errors import ScrignoError
from scrigno.core.tracing import REQUEST
from scrigno.reading.errors import RevisionConflict
from scrigno.settings.document import InvalidSettingsError
from scrigno.volumes.states import ErrorKind, VolumeError

PROBLEM_TYPE: Final = "application/problem+json"


class RequestRefused(ScrignoError):
    """The request itself was not right."""

    code = "bad-request"


class NotLoggedIn(RequestRefused):
    """The route needs a log-in."""

    code = "not-logged-in"


class NotAllowed(RequestRefused):
    """The account may not do this."""

    code = "not-allowed"


class CrossOrigin(RequestRefused):
    """A page of another site asked, with the cookie of this one."""

    code = "cross-origin"


class NotFound(RequestRefused):
    """There is no such thing here."""

    code = "not-found"


class MethodNotAllowed(RequestRefused):
    """The resource has no such method."""

    code = "method-not-allowed"


class BodyTooLarge(RequestRefused):
    """The body is larger than the route takes."""

    code = "body-too-large"


class BadBody(RequestRefused):
    """The body is not the JSON that the route takes; `field` is the path to what is wrong."""

    code = "bad-body"
    field = ""


class UnknownParameter(RequestRefused):
    """The query string has a key that the route does not know."""

    code = "unknown-parameter"


class UnknownHost(RequestRefused):
    """The request is meant for another host than this box."""

    code = "unknown-host"


class HttpsRequired(RequestRefused):
    """Only https will do."""

    code = "https-required"


class BodyTooSlow(RequestRefused):
    """The body did not come in time."""

    code = "body-too-slow"


class NotRepeated(RequestRefused):
    """What is removed for good must be named twice."""

    code = "not-repeated"


class NotPossible(RequestRefused):
    """The request has the right shape and says something that cannot be."""

    code = "not-possible"


class AuditUnreadable(ScrignoError):
    """The disk does not give the audit trail back."""

    code = "audit-unreadable"


class LogUnreadable(ScrignoError):
    """The disk does not give the log back."""

    code = "log-unreadable"


class TooManyListeners(ScrignoError):
    """As many pages listen to events as the box serves."""

    code = "too-many-listeners"


STATUS: Final[Mapping[str, int]] = {
    "access-denied": 403,
    "account-of-provider": 409,
    "already-claimed": 409,
    "annotation-export-failed": 422,
    "archive-dangerous": 422,
    "audit-unreadable": 503,
    "bad-body": 400,
    "bad-certificate": 422,
    "bad-configuration": 422,
    "bad-document": 422,
    "bad-launch": 400,
    "bad-multipart": 400,
    "bad-request": 400,
    "bad-role": 422,
    "bad-user-name": 422,
    "body-too-large": 413,
    "body-too-slow": 408,
    "broken-stream": 502,
    "capacity-reached": 507,
    "client-too-slow": 408,
    "command-refused": 409,
    "confirm-password": 403,
    "cross-origin": 403,
    "database-closed": 503,
    "database-damaged": 503,
    "database-failed": 503,
    "database-full": 507,
    "database-locked": 503,
    "database-unavailable": 503,
    "decision-overtaken": 409,
    "decision-refused": 409,
    "decode-failed": 422,
    "decode-timeout": 504,
    "engine-too-old": 503,
    "export-failed": 507,
    "export-too-large": 413,
    "header-incomplete": 422,
    "header-unreadable": 422,
    "https-required": 403,
    "imaging-busy": 503,
    "imaging-closed": 503,
    "inbox-refused": 409,
    "inbox-waits": 503,
    "index-unavailable": 503,
    "job-refused": 409,
    "key-conflict": 409,
    "last-administrator": 409,
    "launch-off": 403,
    "launch-over": 410,
    "log-unreadable": 503,
    "login-expired": 401,
    "login-unfinished": 401,
    "method-not-allowed": 405,
    "no-document": 422,
    "no-durable-storage": 507,
    "no-pixel-data": 422,
    "no-such-frame": 404,
    "no-such-log": 404,
    "no-such-value": 404,
    "not-acceptable": 406,
    "not-allowed": 403,
    "not-dicom": 422,
    "not-found": 404,
    "not-logged-in": 401,
    "not-possible": 422,
    "not-repeated": 409,
    "not-taken-in": 503,
    "nothing-to-delete": 404,
    "nothing-to-export": 404,
    "object-too-large": 413,
    "object-unavailable": 503,
    "object-unreadable": 422,
    "outgoing-failed": 502,
    "outgoing-refused": 422,
    "password-expired": 401,
    "place-not-allowed": 403,
    "provider-refused": 403,
    "provider-unavailable": 503,
    "query-interrupted": 503,
    "query-too-large": 413,
    "range-not-satisfiable": 416,
    "reading-refused": 409,
    "results-full": 507,
    "revision-conflict": 412,
    "revision-needed": 428,
    "role-in-use": 409,
    "remote-query-refused": 422,
    "schema-too-new": 503,
    "second-factor-refused": 409,
    "send-queue-full": 507,
    "send-refused": 409,
    "settings-changed-meanwhile": 409,
    "share-over": 404,
    "share-refused": 403,
    "shutting-down": 503,
    "source-gone": 409,
    "source-refused": 422,
    "spare-full": 507,
    "staging-failed": 503,
    "staging-full": 507,
    "study-protected": 409,
    "too-many": 409,
    "target-not-empty": 409,
    "too-many-attempts": 429,
    "too-many-codes": 503,
    "too-many-jobs": 503,
    "too-many-listeners": 503,
    "too-many-to-sort": 413,
    "too-many-tokens": 409,
    "trash-refused": 409,
    "uid-mismatch": 422,
    "unknown-account": 404,
    "unknown-delivery": 404,
    "unknown-host": 421,
    "unknown-job": 404,
    "unknown-parameter": 400,
    "unknown-peer": 404,
    "unknown-revision": 404,
    "unknown-role": 404,
    "unknown-send-item": 404,
    "unknown-study-column": 400,
    "unknown-upload": 404,
    "unknown-version": 404,
    "unknown-webhook": 404,
    "unsupported-key": 400,
    "unsupported-media-type": 415,
    "unsupported-transfer-syntax": 422,
    "unusable-destination": 409,
    "upload-conflict": 409,
    "upload-damaged": 422,
    "uploads-full": 507,
    "volume-error": 503,
    "weak-password": 422,
    "web-connections-exhausted": 503,
    "wrong-code": 401,
    "wrong-credentials": 401,
    "wrong-setup-code": 403,
    "wrong-study": 409,
}


def problem(error: ScrignoError) -> web.Response:
    """Return the answer for a refusal; an unknown code is the box's own fault, status 500."""
    status = STATUS.get(error.code, 500)
    if isinstance(error, VolumeError) and error.kind is ErrorKind.FULL:
        status = 507
    content: dict[str, Any] = {
        "type": f"urn:scrigno:problem:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": error.reason,
    }
    if REQUEST.get():  # stands in the log lines of this request too
        content["request_id"] = REQUEST.get()
    if error.next_step:
        content["next_step"] = error.next_step
    headers: dict[str, str] = {}
    match error:
        case TooManyAttempts():
            content["retry_after_s"] = error.retry_after_s
            headers["Retry-After"] = str(error.retry_after_s)
        case WeakPassword():
            content["rule"] = error.rule
        case InvalidSettingsError():
            content["problems"] = [
                {"key": each.key(), "what": each.what, "allowed": each.allowed}
                for each in error.problems
            ]
        case BadBody() if error.field:
            content["field"] = error.field
        case RevisionConflict():  # both sides: what was sent is the caller's, this stands there
            content["current"] = error.current
            content["revision"] = error.revision
            headers["ETag"] = f'"{error.revision}"'
        case NotLoggedIn():
            headers["WWW-Authenticate"] = "Bearer"
        case _:
            pass
    return web.json_response(content, status=status, headers=headers, content_type=PROBLEM_TYPE)
