# SPDX-License-Identifier: Apache-2.0
"""Fill an index with generated studies through its real schema: `python bench/million.py PATH`.

Names are Japanese, Korean, Italian and French with all component groups; dates span ten years;
IDs, accession numbers and descriptions look like a hospital's. The same seed gives the same rows.
"""

import argparse
import asyncio
import hashlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from pysqlite3 import dbapi2

from scrigno.catalogue import fulltext, names, rows, values
from scrigno.catalogue.schema import INDEX_SCHEMA
from scrigno.core.attributes import (
    InstanceAttributes,
    PatientAttributes,
    PersonName,
    SeriesAttributes,
    StudyAttributes,
)
from scrigno.core.phi import Phi
from scrigno.db.engine import Database


def _words(text: str) -> list[str]:
    return text.split()


JAPANESE_FAMILY = """
佐藤 サトウ Sato|鈴木 スズキ Suzuki|高橋 タカハシ Takahashi|田中 タナカ Tanaka|伊藤 イトウ Ito
渡辺 ワタナベ Watanabe|山本 ヤマモト Yamamoto|中村 ナカムラ Nakamura|小林 コバヤシ Kobayashi
加藤 カトウ Kato|吉田 ヨシダ Yoshida|山田 ヤマダ Yamada|佐々木 ササキ Sasaki|山口 ヤマグチ Yamaguchi
松本 マツモト Matsumoto|井上 イノウエ Inoue|木村 キムラ Kimura|林 ハヤシ Hayashi
斎藤 サイトウ Saito
清水 シミズ Shimizu|山崎 ヤマザキ Yamazaki|森 モリ Mori|池田 イケダ Ikeda|橋本 ハシモト Hashimoto
阿部 アベ Abe|石川 イシカワ Ishikawa|山下 ヤマシタ Yamashita|中島 ナカジマ Nakajima
石井 イシイ Ishii|小川 オガワ Ogawa|前田 マエダ Maeda
岡田 オカダ Okada|長谷川 ハセガワ Hasegawa|藤田 フジタ Fujita
後藤 ゴトウ Goto|近藤 コンドウ Kondo|村上 ムラカミ Murakami|遠藤 エンドウ Endo|青木 アオキ Aoki
坂本 サカモト Sakamoto|福田 フクダ Fukuda|太田 オオタ Ota|西村 ニシムラ Nishimura|藤井 フジイ Fujii
"""
JAPANESE_GIVEN = """
太郎 タロウ Taro|花子 ハナコ Hanako|一郎 イチロウ Ichiro|健 ケン Ken|恵子 ケイコ Keiko
美咲 ミサキ Misaki|翔太 ショウタ Shota|さくら サクラ Sakura|誠 マコト Makoto|由美 ユミ Yumi
大輔 ダイスケ Daisuke|陽子 ヨウコ Yoko|浩 ヒロシ Hiroshi|直美 ナオミ Naomi|蓮 レン Ren
結衣 ユイ Yui|隆 タカシ Takashi|和子 カズコ Kazuko|学 マナブ Manabu|真理 マリ Mari
拓也 タクヤ Takuya|幸子 サチコ Sachiko|進 ススム Susumu|明 アキラ Akira|裕子 ユウコ Yuko
"""
KOREAN_FAMILY = """
김 金 Kim|이 李 Lee|박 朴 Park|최 崔 Choi|정 鄭 Jung|강 姜 Kang|조 趙 Cho|윤 尹 Yoon|장 張 Jang
임 林 Lim|한 韓 Han|오 吳 Oh|서 徐 Seo|신 申 Shin|권 權 Kwon|황 黃 Hwang
"""
KOREAN_GIVEN = """
희중 喜中 Huijung|민준 民俊 Minjun
서연 瑞娟 Seoyeon|지우 智友 Jiwoo|영희 英姬 Younghee
철수 哲洙 Cheolsu|하은 河恩 Haeun|도윤 道允 Doyun
수빈 秀彬 Subin|현우 賢宇 Hyunwoo|미경 美京 Mikyung
상훈 相勳 Sanghoon
"""
ITALIAN_FAMILY = _words("""
Rossi Russo Ferrari Esposito Bianchi Romano Colombo Ricci Marino Greco Bruno Gallo Conti
DeLuca Mancini Costa Giordano Rizzo Lombardi Moretti Barbieri Fontana Santoro Mariani
Rinaldi Caruso Ferrara Galli Martini Leone Longo Gentile Martinelli Vitale Lombardo Serra
Coppola D'Angelo D'Amico Nicolò Cantù Forlì
""")
ITALIAN_GIVEN = _words("""
Giuseppe Maria Antonio Anna Giovanni Francesca Luca Chiara Marco Sara Niccolò Giulia
Andrea Elena Matteo Paola Davide Laura Stefano Lucia Paolo Rosa Roberto Teresa
""")
FRENCH_FAMILY = _words("""
Martin Bernard Dubois Thomas Robert Richard Petit Durand Leroy Moreau Simon Laurent
Lefèvre Michel Garcia Bertrand Roux Vincent Fournier Morel Girard André Mercier Dupont
Lambert Bonnet François Légère Noël Gauthier Chevalier Mathieu Clément Robin Désiré
Barthélémy
""")
FRENCH_GIVEN = _words("""
Jean Marie Pierre Hélène Michel Françoise André Sylvie Philippe Zoé René Chloé Alain Léa
Bernard Aurélie Benoît Agnès Loïc Amélie Gérard Inès
""")

DESCRIPTIONS = (
    ("CT", "CHEST", "胸部単純CT"),
    ("CT", "ABDOMEN", "腹部造影CT"),
    ("CT", "HEAD", "CT HEAD W/O CONTRAST"),
    ("CT", "CHEST", "TC TORACE CON MDC"),
    ("CT", "ABDOMEN", "TDM abdomino-pelvienne"),
    ("MR", "HEAD", "頭部MRI"),
    ("MR", "SPINE", "RM RACHIDE LOMBO-SACRALE"),
    ("MR", "KNEE", "IRM genou droit"),
    ("MR", "HEAD", "뇌 MRI 조영"),
    ("CR", "CHEST", "胸部 正面"),
    ("DX", "CHEST", "RX TORACE 2P"),
    ("DX", "HAND", "Radiographie main gauche"),
    ("CR", "CHEST", "흉부 PA"),
    ("US", "ABDOMEN", "腹部エコー"),
    ("US", "NECK", "ECOGRAFIA TIROIDE"),
    ("MG", "BREAST", "マンモグラフィ 検診"),
    ("MG", "BREAST", "Mammographie bilatérale"),
    ("XA", "HEART", "CORONARY ANGIO"),
    ("NM", "BONE", "骨シンチグラフィ"),
    ("PT", "WHOLEBODY", "FDG PET/CT"),
    ("ES", "STOMACH", "上部消化管内視鏡"),
    ("RF", "COLON", "注腸造影"),
    ("DX", "SPINE", "RX COLONNA"),
    ("OT", "", ""),
)
WEIGHTS = (9, 7, 9, 6, 5, 6, 5, 4, 3, 9, 9, 5, 5, 6, 5, 3, 2, 1, 1, 1, 2, 1, 4, 1)
INSTITUTIONS = (
    "さくら総合病院",
    "Ospedale San Raffaele",
    "서울한빛병원",
    "Hôpital Saint-Louis",
    "Clinica Villa Aurora",
    "中央健診センター",
)
SOP_CLASS = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "US": "1.2.840.10008.5.1.4.1.1.6.1",
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "MG": "1.2.840.10008.5.1.4.1.1.1.2",
}
FIRST_DAY = date(2016, 1, 1)
DAYS = 3650
RECEIVED = datetime(2016, 1, 1, tzinfo=UTC)
BATCH = 5_000


def _triples(text: str) -> list[list[str]]:
    return [one.split() for line in text.strip().splitlines() for one in line.split("|")]


FAMILY_JA, GIVEN_JA = _triples(JAPANESE_FAMILY), _triples(JAPANESE_GIVEN)
FAMILY_KO, GIVEN_KO = _triples(KOREAN_FAMILY), _triples(KOREAN_GIVEN)


def _name(dice: random.Random) -> tuple[PersonName, str]:
    """Return a name and the character set that its images would have."""
    kind = dice.random()
    if kind < 0.45:
        family, given = dice.choice(FAMILY_JA), dice.choice(GIVEN_JA)
        return (
            PersonName(
                alphabetic=Phi(f"{family[2]}^{given[2]}"),
                ideographic=Phi(f"{family[0]}^{given[0]}"),
                phonetic=Phi(f"{family[1]}^{given[1]}"),
            ),
            "\\ISO 2022 IR 87",
        )
    if kind < 0.6:
        family, given = dice.choice(FAMILY_KO), dice.choice(GIVEN_KO)
        return (
            PersonName(
                alphabetic=Phi(f"{family[2]}^{given[2]}"),
                ideographic=Phi(f"{family[1]}^{given[1]}"),
                phonetic=Phi(f"{family[0]}^{given[0]}"),
            ),
            "\\ISO 2022 IR 149",
        )
    if kind < 0.85:
        text = f"{dice.choice(ITALIAN_FAMILY)}^{dice.choice(ITALIAN_GIVEN)}"
        return PersonName(alphabetic=Phi(text.upper())), "ISO_IR 100"
    text = f"{dice.choice(FRENCH_FAMILY)}^{dice.choice(FRENCH_GIVEN)}"
    return PersonName(alphabetic=Phi(text)), "ISO_IR 192"


@dataclass
class Tables:
    """Rows gathered for one batch."""

    patient: list[dict[str, Any]] = field(default_factory=list)
    study: list[dict[str, Any]] = field(default_factory=list)
    words: list[tuple[int, str]] = field(default_factory=list)
    series: list[dict[str, Any]] = field(default_factory=list)
    instance: list[tuple[Any, ...]] = field(default_factory=list)
    copy: list[tuple[Any, ...]] = field(default_factory=list)


class Generator:
    """Makes one study after another; a patient has about one and a half of them."""

    def __init__(self, studies: int, seed: int) -> None:
        """Start the dice at `seed`."""
        self._dice = random.Random(seed)
        self._studies = studies
        self._people: list[tuple[int, PatientAttributes, str]] = []
        self._referrers = [_name(self._dice)[0] for _ in range(800)]
        self.series = 0
        self.instances = 0
        self.size = 0
        self.patients = 0
        self.bits = {
            code: bit for bit, code in enumerate(dict.fromkeys(d[0] for d in DESCRIPTIONS))
        }

    def batches(self) -> Iterator[Tables]:
        """Yield all rows, some thousand studies at a time."""
        for first in range(1, self._studies + 1, BATCH):
            tables = Tables()
            for number in range(first, min(first + BATCH, self._studies + 1)):
                self._study(tables, number)
            yield tables

    def _person(self, tables: Tables) -> tuple[int, PatientAttributes, str]:
        dice = self._dice
        if self._people and dice.random() < 0.35:
            return dice.choice(self._people)
        self.patients += 1
        name, charset = _name(dice)
        born = date(1930, 1, 1) + timedelta(days=dice.randrange(33_000))
        style = dice.random()
        number = (
            f"{self.patients:08d}" if style < 0.7 else f"P{self.patients:06d}-{dice.randrange(10)}"
        )
        person = PatientAttributes(
            patient_id=Phi(number),
            patient_name=name,
            patient_birth_date=Phi(f"{born:%Y%m%d}"),
            patient_sex=dice.choice("MF"),
        )
        tables.patient.append(
            {
                "id": self.patients,
                "identity": "",
                "character_set": charset,
                **rows.columns_of(person, rows.PATIENT_COLUMNS),
            }
        )
        known = (self.patients, person, charset)
        if len(self._people) < 200_000:
            self._people.append(known)
        return known

    def _study(self, tables: Tables, number: int) -> None:
        dice = self._dice
        patient, person, charset = self._person(tables)
        modality, part, description = dice.choices(DESCRIPTIONS, WEIGHTS)[0]
        # newer years hold more, and mostly in the order of reception
        place = (number / self._studies) ** 0.8
        day = FIRST_DAY + timedelta(days=min(DAYS - 1, int(place * DAYS) + dice.randrange(3)))
        second = 8 * 3600 + dice.randrange(36_000)
        clock = f"{second // 3600:02}{second // 60 % 60:02}{second % 60:02}"
        uid = f"1.2.392.200036.9116.{number}.{dice.randrange(10**12)}"
        institution = dice.choices(range(len(INSTITUTIONS)), (40, 20, 15, 15, 8, 2))[0]
        study = StudyAttributes(
            study_instance_uid=uid,
            study_id=str(dice.randrange(100_000)),
            study_date=f"{day:%Y%m%d}",
            study_time=clock,
            accession_number=f"A{number:09d}" if dice.random() < 0.9 else "",
            study_description=description,
            referring_physician_name=dice.choice(self._referrers),
            institution_name=INSTITUTIONS[institution],
            patient_age=f"{max(0, day.year - int(person.patient_birth_date[:4])):03}Y",
        )
        modalities = {modality}
        if dice.random() < 0.08:
            modalities.add("OT")
        received = values.stamp(
            datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(seconds=second + 900)
        )
        count = size = 0
        parts = 2 if dice.random() < 0.2 else 1
        for position in range(parts):
            kind = modality if position == 0 else sorted(modalities)[-1]
            objects, length = self._series(
                tables, number, position, uid, kind, part, day, clock, received, charset
            )
            count += objects
            size += length
        bits = sum(1 << self.bits[code] for code in modalities)
        tables.study.append(
            {
                "id": number,
                "patient": patient,
                "modality_bits": bits,
                "modalities": values.joined(modalities),
                "sop_classes": SOP_CLASS.get(modality, "1.2.840.10008.5.1.4.1.1.7"),
                "body_parts": part,
                "institution_id": institution + 1,
                "number_of_series": parts,
                "number_of_instances": count,
                "size_bytes": size,
                "received_first": received,
                "received_last": received,
                "patient_conflict": 0,
                "character_set": charset,
                **rows.columns_of(person, rows.PATIENT_COLUMNS),
                **rows.columns_of(study, rows.STUDY_COLUMNS),
            }
        )
        texts = rows.searched(person, study)
        tables.words.append((number, fulltext.kept(person.patient_name, texts)))

    def _series(
        self,
        tables: Tables,
        study: int,
        position: int,
        uid: str,
        modality: str,
        part: str,
        day: date,
        clock: str,
        received: int,
        charset: str,
    ) -> tuple[int, int]:
        self.series += 1
        series_uid = f"{uid}.{position + 1}"
        attributes = SeriesAttributes(
            series_instance_uid=series_uid,
            modality=modality,
            series_number=str(position + 1),
            series_date=f"{day:%Y%m%d}",
            series_time=clock,
            series_description=f"{modality} {part}".strip(),
            body_part_examined=part,
        )
        size = 130_000 + self._dice.randrange(400_000)
        tables.series.append(
            {
                "id": self.series,
                "study": study,
                "series_order": position + 1,
                "number_of_instances": 1,
                "size_bytes": size,
                "request_attributes": "",
                "character_set": charset,
                **rows.columns_of(attributes, rows.SERIES_COLUMNS),
            }
        )
        self.instances += 1
        self.size += size
        instance = InstanceAttributes(
            sop_class_uid=SOP_CLASS.get(modality, "1.2.840.10008.5.1.4.1.1.7"),
            sop_instance_uid=f"{series_uid}.1",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            instance_number="1",
        )
        digest = hashlib.sha256(series_uid.encode()).digest()
        tables.instance.append(
            (
                self.instances,
                self.series,
                digest,
                size,
                received,
                1,
                None,
                None,
                charset,
                *rows.instance_values(instance),
            )
        )
        tables.copy.append((self.instances, "data", 1))
        return 1, size


def _insert_dicts(connection: Any, table: str, found: list[dict[str, Any]]) -> None:
    if found:
        columns = list(found[0])
        connection.executemany(
            f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            ([row[column] for column in columns] for row in found),
        )


def fill(path: Path, studies: int, seed: int = 1) -> dict[str, int]:
    """Make the index at `path`; nothing may stand there."""
    if path.exists():
        raise SystemExit(f"{path} exists")

    async def make() -> None:
        async with Database(path, INDEX_SCHEMA):
            pass

    asyncio.run(make())
    connection = dbapi2.connect(str(path), isolation_level=None)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -400000")
    indexes = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
        "AND tbl_name IN ('patient', 'study', 'series', 'instance', 'copy')"
    ).fetchall()
    for name, _ in indexes:
        connection.execute(f"DROP INDEX {name}")
    generator = Generator(studies, seed)
    connection.execute("BEGIN")
    connection.executemany(
        "INSERT INTO modality (bit, code) VALUES (?, ?)",
        [(bit, code) for code, bit in generator.bits.items()],
    )
    connection.executemany(
        "INSERT INTO institution (id, name, name_key) VALUES (?, ?, ?)",
        [(place + 1, name, names.key(name)) for place, name in enumerate(INSTITUTIONS)],
    )
    connection.execute(
        "INSERT INTO origin (id, door, calling_ae, called_ae, address, account) "
        "VALUES (1, 'import', '', '', '', '')"
    )
    one = f"({','.join('?' * rows.INSTANCE_WIDTH)})"
    for tables in generator.batches():
        _insert_dicts(connection, "patient", tables.patient)
        _insert_dicts(connection, "study", tables.study)
        _insert_dicts(connection, "series", tables.series)
        connection.executemany(rows.INSERT_INSTANCE + one, tables.instance)
        connection.executemany(f"{rows.INSERT_COPY} (?, ?, ?)", tables.copy)
        connection.executemany("INSERT INTO study_words (rowid, words) VALUES (?, ?)", tables.words)
    for _, sql in indexes:
        connection.execute(sql)
    counts = {
        "patients": generator.patients,
        "studies": studies,
        "series": generator.series,
        "instances": generator.instances,
        "size_bytes": generator.size,
    }
    connection.execute(
        "UPDATE totals SET patients = ?, studies = ?, series = ?, instances = ?, size_bytes = ?",
        list(counts.values()),
    )
    connection.execute(
        "INSERT INTO volume_tally VALUES ('data', ?, ?, 0, 0, 0, 0)",
        (generator.instances, generator.size),
    )
    connection.execute("COMMIT")
    connection.close()
    return counts


def main() -> None:
    """Fill the index that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--studies", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    started = time.monotonic()
    counts = fill(chosen.path, chosen.studies, chosen.seed)
    counts |= {"seconds": round(time.monotonic() - started), "bytes": chosen.path.stat().st_size}
    print(json.dumps(counts))


if __name__ == "__main__":
    main()
