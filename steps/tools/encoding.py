"""``content`` as tools take it: text, or base64 for what isn't text."""

import base64
import binascii
from collections.abc import Mapping

from flows.values import Json
from steps.tools.contract import InvalidArgumentsError


def decoded(arguments: Mapping[str, Json]) -> bytes:
    """The bytes of ``content``, which is in ``encoding`` (left out: text).

    Raises:
        InvalidArgumentsError: it isn't.
    """
    content: str = arguments["content"]
    try:
        if arguments.get("encoding", "text") == "text":
            return content.encode()
        return base64.b64decode(content, validate=True)
    except UnicodeEncodeError:
        raise InvalidArgumentsError(
            "content isn't text: it holds half a surrogate pair", fix="give it with encoding: base64"
        ) from None
    except (binascii.Error, ValueError) as error:
        raise InvalidArgumentsError(f"content isn't base64: {error}", fix="encode it, or leave out encoding") from None
