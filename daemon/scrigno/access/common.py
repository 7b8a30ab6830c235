# SPDX-License-Identifier: Apache-2.0
"""Passwords that are tried first on boxes like this one; all folded to small letters.

Beside the words of this trade and of the languages of the pages stand the most common ones of the
world (ASVS 5.0 6.2.4 asks for 3000 that the rules of length allow), in a file with their source.
Only those of eight characters and more are worth keeping, shorter ones are refused anyhow; words
below that length match with digits and signs around them.
"""

from importlib import resources
from typing import Final

_TEXT: Final = """
00000000 0123456789 11111111 11223344 112233445566 123123123 12341234 12344321 12345678
123456789 1234567890 1234abcd 123654789 1357924680 147258369 19841984 1q2w3e4r 1qaz2wsx 20202020
87654321 88888888 987654321 a1b2c3d4 aa123456 abc12345 abc123456 abcd1234 access14 admin
admin123 admin1234 adminadmin administrador administrator administrator1 agfa1234 alexander
amministratore anhyeuem arsenal1 asdf1234 asdfghjk asdfghjkl ashley12 autumn2026 azertyui
azertyuiop barcelona baseball basketball batman123 benvenuto bimilbeonho blessed1 bonjour1
butterfly canon123 carestream changeit changeme changeme1 charlie1 cheese123 chelsea1 chocolat
chocolate ciao1234 ciaociao clinic12 clinica1 computer corvette danielle default1 dicom123
dicomdicom doctor12 dottore1 doudou12 dragon12 dragon123 elizabeth estate2025 estate2026
familia1 family12 fieldservice football football1 forzaitalia fujifilm ge123456 god12345
guest123 guestguest hello123 hellohello helloworld himitsu1 hitachi1 hospital iloveyou iloveyou1
inter1908 internet jennifer jessica1 jesus123 jesuschrist jordan23 juventus konica12 korea123
letmein letmein1 liverpool lkjhgfdsa loulou12 manager1 marseille master12 matkhau1 matkhau123
maverick medico12 mercedes michael1 michelle midnight milan1899 mnbvcxz1 monkey12 monkey123
motdepasse mypassword napoli1926 newpassword nihon123 operator operator1 orthanc orthanc1
ospedale p@ssw0rd p@ssword pacs1234 pacspacs passw0rd password password! password1 password12
password123 password2024 password2025 password2026 passwort pasuwado patricia philips1
poiuytrewq pokemon1 princess q1w2e3r4 qweasdzxc qwer1234 qwerty123 qwerty12345 qwertyui
qwertyuiop radiologia radiologie radiologist radiology realmadrid root1234 rootroot sakura12
samsung1 sarang12 scrigno scrigno1 scrignoscrigno secret12 secret123 security security1 service1
shadow12 shadow123 siemens1 soleil12 sonicdicom spring2026 starwars summer2024 summer2025
summer2026 sunflower sunshine superman superman1 supervisor support1 technician test1234
testing123 testtest tokyo123 toor1234 toshiba1 toulouse trustno1 welcome welcome1 welcome123
whatever winter2025 winter2026 xray1234 zaq12wsx zxcvbnm1 zxcvbnmasd
"""


def _listed() -> frozenset[str]:
    text = resources.files(__package__).joinpath("common_passwords.txt").read_text("utf-8")
    return frozenset(line.casefold() for line in text.splitlines() if not line.startswith("# "))


COMMON: Final = frozenset(_TEXT.split()) | _listed()
