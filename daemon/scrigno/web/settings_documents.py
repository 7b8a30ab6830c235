# SPDX-License-Identifier: Apache-2.0
"""What a settings document may say, as the components of the OpenAPI document.

The settings have a table of their own (`scrigno.settings.shapes`) that reads, explains and checks
them; here it only becomes part of the document, and a merge patch of it.
"""

from typing import Annotated, Any, Final

from msgspec import Meta

from scrigno.settings.shapes import PEER, PROVIDER, SETTINGS


def _patch(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a merge patch (RFC 7396): every key may be left out, null removes it."""
    if "properties" not in schema:
        return schema
    return {
        "type": "object",
        "properties": {
            name: {"anyOf": [_patch(each), {"type": "null"}]}
            for name, each in schema["properties"].items()
        },
        "additionalProperties": False,
    }


COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "Settings": SETTINGS.json_schema(),
    "SettingsPatch": _patch(SETTINGS.json_schema()),
    "Provider": PROVIDER.json_schema(),
    "ProviderPatch": _patch(PROVIDER.json_schema()),
    "Peer": PEER.json_schema(),
    "PeerPatch": _patch(PEER.json_schema()),
}


def _of(name: str) -> Meta:
    return Meta(extra_json_schema={"$ref": f"#/components/schemas/{name}"})


SettingsDocument = Annotated[dict[str, Any], _of("Settings")]
SettingsPatch = Annotated[dict[str, Any], _of("SettingsPatch")]
ProviderDocument = Annotated[dict[str, Any], _of("Provider")]
ProviderPatch = Annotated[dict[str, Any], _of("ProviderPatch")]
PeerDocument = Annotated[dict[str, Any], _of("Peer")]
PeerPatch = Annotated[dict[str, Any], _of("PeerPatch")]
