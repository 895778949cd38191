"""Problem details as RFC 9457 describes them."""

import re
from typing import Any
from urllib.parse import quote


def problem(
    slug: str, title: str, status: int, detail: str, path: str, request_id: str, **more: object
) -> dict[str, Any]:
    """The members of a problem. `path` is that of the request, whether or not its characters are escaped."""
    return {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path), safe="/%", errors="replace"),
        "request_id": request_id,
        **more,
    }
