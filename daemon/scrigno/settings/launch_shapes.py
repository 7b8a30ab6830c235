# SPDX-License-Identifier: Apache-2.0
"""What the settings of `launch` and `share` may say, key by key."""

from typing import Final

from .kinds import Flag, Group, Key, Whole
from .launch import LaunchSettings, ShareSettings

LAUNCH: Final = Group(
    build=LaunchSettings,
    keys={
        "password_in_address": Key(
            kind=Flag(), about="true: #/list?id=…&password=… logs in, as older systems ask for"
        ),
        "one_time_codes": Key(
            kind=Flag(), about="false: /viewer/api/otp/ gives no keys out and takes no codes"
        ),
        "tokens": Key(kind=Flag(), about="false: no launch tokens are made or taken"),
    },
)
SHARE: Final = Group(
    build=ShareSettings,
    keys={
        "enabled": Key(kind=Flag(), about="false: no link for guests is made or opened"),
        "longest_days": Key(
            kind=Whole(lowest=1, highest=3650), about="Days for which a link may be good at most"
        ),
        "secret_required": Key(
            kind=Flag(), about="true: a link must ask for a password or the birth date"
        ),
    },
)
