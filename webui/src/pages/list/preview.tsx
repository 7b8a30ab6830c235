// SPDX-License-Identifier: Apache-2.0
// The one picked study: its series, the note and the labels that people gave it.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import * as api from "../../api.js";
import { moment, t } from "../../i18n.js";
import { may } from "../../state.js";
import { Icon } from "../../ui/icon";
import { Autosave, type SaveState } from "../../viewer/autosave";
import type { StudyRow } from "./rows";

interface Series {
  series_instance_uid: string;
  modality: string;
  series_number: number | null;
  series_description: string;
  number_of_instances: number;
  instances: { sop_instance_uid: string; rows: number | null; number_of_frames: number | null }[];
}

export function Preview({ row }: { row: StudyRow }) {
  const [series, setSeries] = useState<Series[] | null>(null);
  const uid = row.study_instance_uid;
  useEffect(() => {
    const controller = new AbortController();
    setSeries(null);
    api
      .study(uid, controller.signal)
      .then((found: { series: Series[] }) => setSeries(found.series))
      .catch(() => {}); // the line above stays useful without it
    return () => controller.abort();
  }, [uid]);
  const verified = row.verified_on
    ? t("viewer.verified", { time: moment(row.verified_on) })
    : t("viewer.unverified");
  return (
    <section class="card preview" aria-label={t("list.preview")}>
      <ul class="preview-series">
        {series?.map((each) => (
          <li key={each.series_instance_uid}>
            <SeriesCard study={uid} series={each} />
          </li>
        ))}
      </ul>
      <div class="preview-words">
        <Words key={uid} uid={uid} />
        <p class="muted">{verified}</p>
      </div>
    </section>
  );
}

function SeriesCard({ study, series }: { study: string; series: Series }) {
  const pictures = series.instances.filter(({ rows }) => rows);
  const middle = pictures[Math.floor(pictures.length / 2)];
  const words = [series.series_number, series.series_description].filter(Boolean).join(" · ");
  const query = new URLSearchParams({
    studyinstanceuid: study,
    seriesinstanceuid: series.series_instance_uid,
  });
  return (
    <a class="series" href={`#/viewer?${query}`}>
      <div class="thumb">
        {middle ? (
          <img
            src={api.frameThumbnail(
              middle.sop_instance_uid,
              Math.ceil((middle.number_of_frames ?? 1) / 2),
            )}
            alt=""
            loading="lazy"
            decoding="async"
          />
        ) : (
          series.modality || <Icon name="picture" />
        )}
      </div>
      <span class="series-words">
        <b>{words || t("viewer.unnamed")}</b>
        <span>{series.modality}</span>
        <span>{t("viewer.images", { n: series.number_of_instances })}</span>
      </span>
    </a>
  );
}

/** Note and labels, saved as one writes. */
function Words({ uid }: { uid: string }) {
  const [state, setState] = useState<SaveState | null>(null);
  const [refused, setRefused] = useState("");
  const [made] = useState(() => ({
    note: signal(""),
    labels: signal(""),
    savers: [] as { touch(): void }[],
  }));
  const [ready, setReady] = useState(false);
  useEffect(() => {
    const controller = new AbortController();
    let stop = () => {};
    Promise.all([api.note(uid, controller.signal), api.labels(uid, controller.signal)])
      .then(([note, labels]) => {
        made.note.value = note.note.text;
        made.labels.value = labels.labels.labels.join(", ");
        const notes = new Autosave(
          {
            read: () => ({ text: made.note.value }),
            write: async (body, revision) => (await api.saveNote(uid, body, revision)).revision,
            told: setState,
          },
          note.revision,
        );
        const marks = new Autosave(
          {
            read: () => ({ labels: split(made.labels.value) }),
            write: async (body, revision) => (await api.saveLabels(uid, body, revision)).revision,
            told: setState,
          },
          labels.revision,
        );
        made.savers = [notes, marks];
        stop = () => {
          void notes.stop();
          void marks.stop();
        };
        setReady(true);
      })
      .catch((error: { name?: string; sentence?: () => string }) => {
        if (!controller.signal.aborted) setRefused(error.sentence?.() ?? t("problem.unknown"));
      });
    return () => {
      controller.abort();
      stop();
    };
  }, [uid]);
  const touch = () => {
    for (const saver of made.savers) saver.touch();
  };
  const readonly = !ready || !may("annotate");
  return (
    <>
      <label class="field">
        <span>{t("list.note")}</span>
        <textarea
          class="input"
          rows={2}
          maxLength={16000}
          value={made.note.value}
          readOnly={readonly}
          onInput={(event) => {
            made.note.value = event.currentTarget.value;
            touch();
          }}
        />
      </label>
      <label class="field">
        <span>{t("list.labels")}</span>
        <input
          class="input"
          maxLength={1000}
          placeholder={t("list.labels.hint")}
          value={made.labels.value}
          readOnly={readonly}
          onInput={(event) => {
            made.labels.value = event.currentTarget.value;
            touch();
          }}
        />
      </label>
      <p class="muted" role="status">
        {refused || (state ? t(`viewer.save.${state}`) : "")}
      </p>
    </>
  );
}

const split = (text: string): string[] => [
  ...new Set(
    text
      .split(/[,、]/)
      .map((each) => each.trim())
      .filter(Boolean),
  ),
];
