"""The errors of the object store, in the words of S3."""

from __future__ import annotations

from xml.sax.saxutils import escape

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'

# Code → HTTP status and message.
_TABLE = {
    "AccessDenied": (403, "Access Denied"),
    "AuthorizationQueryParametersError": (400, "X-Amz-Algorithm only supports AWS4-HMAC-SHA256"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "IncompleteBody": (
        400,
        "You did not provide the number of bytes specified by the Content-Length HTTP header",
    ),
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "InvalidAccessKeyId": (
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
    ),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found.  The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag.",
    ),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. Parts must be ordered by part number.",
    ),
    "InvalidPolicyDocument": (
        400,
        "The content of the form does not meet the conditions specified in the policy document.",
    ),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "MalformedPOSTRequest": (
        400,
        "The body of your POST request is not well-formed multipart/form-data.",
    ),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our published "
        "schema.",
    ),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may "
        "have been aborted or completed.",
    ),
    "NotImplemented": (
        501,
        "A header you provided implies functionality that is not implemented",
    ),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. Check "
        "your key and signing method.",
    ),
}


class StoreError(Exception):
    """A refused request. *details* become elements behind code and message."""

    def __init__(self, code: str, message: str = "", **details: object) -> None:
        self.status, usual = _TABLE[code]
        self.code = code
        self.message = message or usual
        self.details = details
        super().__init__(f"{code}: {self.message}")

    def xml(self) -> bytes:
        """Return the body of the answer."""
        fields = {"Code": self.code, "Message": self.message, **self.details}
        text = "".join(element(name, value) for name, value in fields.items())
        return f"{DECLARATION}<Error>{text}</Error>".encode()


def element(name: str, value: object) -> str:
    """Write one XML element; underscores in *name* stand for hyphens."""
    tag = name.replace("_", "-")
    return f"<{tag}>{escape(str(value), {chr(34): '&quot;'})}</{tag}>"
