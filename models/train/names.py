# SPDX-License-Identifier: Apache-2.0
"""names.py - makes up users, hosts, addresses, domains and files, ordinary ones and hard ones.

In: a random generator. Out: one name. Nothing here is real.
Does not do: the division between training and test (soc.py).
"""

from __future__ import annotations

import re
from random import Random

_ONSETS = "b c d f g h j k l m n p r s t v w z br ch cl dr fr gr kr pl sh sl st th tr".split()
_NUCLEI = "a e i o u ai ea ia io oo".split()
_CODAS = ["", "", "n", "r", "s", "l", "t", "m", "k", "ck", "nd", "rt", "ng", "x"]
_FIRST = (
    "root admin alice bob carol dave eve frank grace heidi ivan judy mallory nina oscar peggy rupert sybil trent "
    "victor wendy anna ben clara david emma felix hanna jonas karl lena maria noah olga paul ruth sara tom ursula "
    "yusuf zoe deploy backup guest test oracle operator"
).split()
_SURNAMES = (
    "smith jones miller davis garcia wilson moore taylor lee white harris clark lewis young king wright lopez "
    "hill green adams baker nelson carter mueller schmidt weber fischer meyer koch bauer novak kowalski rossi silva "
    "santos ivanov petrov tanaka sato kim park chen wang singh patel khan ali"
).split()
_ROLES = (
    "web db app mail file vpn dns proxy build git backup print ldap dc jump edge core cache log scan api node".split()
)
_SITES = "prod dev lab hq east west dmz corp stage int ops".split()
_TLDS = "com net org io info biz top site dev cloud".split()
SERVICES = (
    "nginx sshd postgres redis-server cron systemd-resolved dockerd named postfix haproxy rsyslogd "
    "kubelet mysqld vsftpd"
).split()
_EXTS = "exe dll scr js vbs ps1 docm zip iso bin sh py".split()


def syllables(rng: Random, low: int, high: int) -> str:
    return "".join(
        rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(rng.randint(low, high))
    )


def make_user(rng: Random) -> str:
    name = syllables(rng, 1, 2) if rng.random() < 0.6 else rng.choice(_SURNAMES)
    shape = rng.random()
    if shape < 0.12:
        return rng.choice(_FIRST)
    if shape < 0.40:
        return rng.choice("abcdefghijklmnoprstvw") + name
    if shape < 0.55:
        return rng.choice((syllables(rng, 1, 2), rng.choice(_FIRST))) + "." + name
    if shape < 0.70:
        return rng.choice(("svc", "adm", "ext", "tmp")) + rng.choice("-_") + name
    if shape < 0.85:
        return name + str(rng.randint(1, 99))
    return name


def make_host(rng: Random) -> str:
    role = rng.choice(_ROLES) if rng.random() < 0.6 else syllables(rng, 1, 2)
    shape = rng.random()
    if shape < 0.4:
        return f"{role}-{rng.randint(1, 40):{rng.choice(('', '02'))}d}"
    if shape < 0.6:
        return f"{role}{rng.randint(1, 20)}"
    if shape < 0.8:
        return f"{rng.choice(_SITES)}-{role}-{rng.randint(1, 9)}"
    return f"{role}{rng.randint(1, 9)}.{rng.choice(_SITES)}.local"


def make_ip(rng: Random, inside: bool = False) -> str:
    if inside:
        head = rng.choice((f"10.{rng.randint(0, 255)}", "192.168", f"172.{rng.randint(16, 31)}"))
    else:
        head = f"{rng.choice([n for n in range(23, 224) if n not in (127, 172, 192)])}.{rng.randint(0, 255)}"
    return f"{head}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"


def make_domain(rng: Random) -> str:
    name = syllables(rng, 1, 2)
    return f"{name}{rng.choice(('', '-cdn', '-api', str(rng.randint(1, 99))))}.{rng.choice(_TLDS)}"


def make_file(rng: Random) -> str:
    name = syllables(rng, 1, 2)
    return f"{name}{rng.choice(('', '_' + syllables(rng, 1, 1), str(rng.randint(1, 99))))}.{rng.choice(_EXTS)}"


def make_scrap(rng: Random) -> str:
    """A name that no table of pieces expects: letters at random, or a common word that runs into something else."""
    shape = rng.random()
    letters = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 9)))
    if shape < 0.35:
        return letters
    if shape < 0.55:
        return rng.choice(_FIRST + SERVICES + _ROLES) + rng.choice(("", "-", "_", ".")) + letters[:4]
    if shape < 0.75:
        return letters[:5] + rng.choice(("-", "_", ".", "")) + str(rng.randint(0, 9999))
    return rng.choice(_FIRST + _SURNAMES) + rng.choice(_FIRST + _SURNAMES + _ROLES)


def make_near(rng: Random, text: str) -> str:
    """The same text but for one letter, one digit or one number of an address."""
    if re.fullmatch(r"[0-9.]+", text) and text.count(".") == 3:
        parts = text.split(".")
        at = rng.choice((1, 2, 2, 3, 3))
        parts[at] = str(rng.randint(1, 254))
        return ".".join(parts)
    at = rng.randrange(len(text))
    new = str(rng.randint(0, 9)) if text[at].isdigit() else rng.choice("abcdefghijklmnopqrstuvwxyz")
    return text[:at] + new + text[at + 1 :] if text[at].isalnum() else text + str(rng.randint(1, 9))
