// SPDX-License-Identifier: Apache-2.0
// What a line of the list says in each column.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import * as api from "../../api.js";
import { bytes, dicomDate, dicomTime, moment, number, personName, t } from "../../i18n.js";
import { Icon } from "../../ui/icon";
import type { StudyRow } from "./rows";

export interface Column {
  name: string;
  sort?: string;
  number?: boolean;
  /** Not shown until somebody asks for it. */
  extra?: boolean;
  draw(row: StudyRow): ComponentChildren;
}

const second = (text: ComponentChildren) => <span class="second">{text}</span>;

function Thumbnail({ row }: { row: StudyRow }) {
  const [failed, setFailed] = useState(false);
  return (
    <div class="thumb" aria-hidden="true">
      {failed ? (
        (row.modalities[0] ?? <Icon name="picture" />)
      ) : (
        <img
          src={api.studyThumbnail(row.study_instance_uid)}
          alt=""
          loading="lazy"
          decoding="async"
          onError={() => setFailed(true)}
        />
      )}
    </div>
  );
}

function Patient({ row }: { row: StudyRow }) {
  const [name, other] = personName(row.patient_name);
  return (
    <>
      <a
        class="clamp"
        href={`#/viewer?studyinstanceuid=${encodeURIComponent(row.study_instance_uid)}`}
      >
        {name || t("list.noname")}
      </a>
      <span class="second">
        <span class="mono">{row.patient_id}</span>
        {other ? ` · ${other}` : ""}
      </span>
    </>
  );
}

function Description({ row }: { row: StudyRow }) {
  const below = [row.body_parts.join(", "), row.institution_name].filter(Boolean).join(" · ");
  return (
    <>
      <span class="clamp">{row.study_description}</span>
      <span class="second">
        {row.protected && <span class="tag">{t("list.protected")}</span>}
        {row.protected && below ? " " : ""}
        {below}
      </span>
    </>
  );
}

const sexWords = (sex: string) =>
  ["M", "F", "O"].includes(sex) ? t(`sex.${sex.toLowerCase()}`) : sex;

export const COLUMNS: readonly Column[] = [
  { name: "thumb", draw: (row) => <Thumbnail key={row.study_instance_uid} row={row} /> },
  { name: "patient", sort: "patient_name", draw: (row) => <Patient row={row} /> },
  {
    name: "birth",
    sort: "patient_birth_date",
    draw: (row) => (
      <>
        <span>{dicomDate(row.patient_birth_date)}</span>
        {second(sexWords(row.patient_sex))}
      </>
    ),
  },
  {
    name: "date",
    sort: "study_date",
    draw: (row) => (
      <>
        <span>{dicomDate(row.study_date)}</span>
        {second(dicomTime(row.study_time))}
      </>
    ),
  },
  {
    name: "modality",
    sort: "modalities",
    draw: (row) =>
      row.modalities.map((each) => (
        <span key={each} class="tag accent">
          {each}
        </span>
      )),
  },
  { name: "description", sort: "study_description", draw: (row) => <Description row={row} /> },
  {
    name: "accession",
    sort: "accession_number",
    draw: (row) => <span class="clamp mono">{row.accession_number}</span>,
  },
  {
    name: "images",
    sort: "number_of_instances",
    number: true,
    draw: (row) => (
      <>
        <span>{number(row.number_of_instances)}</span>
        {second(t("list.series", { n: row.number_of_series }))}
      </>
    ),
  },
  {
    name: "referrer",
    sort: "referring_physician_name",
    extra: true,
    draw: (row) => <span class="clamp">{personName(row.referring_physician_name)[0]}</span>,
  },
  {
    name: "studyid",
    sort: "study_id",
    extra: true,
    draw: (row) => <span class="clamp mono">{row.study_id}</span>,
  },
  {
    name: "received",
    sort: "received_last",
    extra: true,
    draw: (row) => moment(row.received_last),
  },
  {
    name: "size",
    sort: "size_bytes",
    number: true,
    extra: true,
    draw: (row) => bytes(row.size_bytes),
  },
  {
    name: "verified",
    extra: true,
    draw: (row) => (row.verified_on ? moment(row.verified_on) : t("list.unverified")),
  },
];
