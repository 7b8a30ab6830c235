// SPDX-License-Identifier: Apache-2.0
// What can be done with the picked studies. Deleting can be undone from the line that says so.

import { signal } from "@preact/signals";
import { useRef } from "preact/hooks";
import * as api from "../../api.js";
import { t } from "../../i18n.js";
import { may } from "../../state.js";
import { Icon } from "../../ui/icon";
import { pickNothing, reload, selection } from "./model";
import { Preview } from "./preview";
import { placesInView } from "./table";

const told = signal<{ text: string; undo?: () => Promise<void> } | null>(null);
const busy = signal(false);

async function act(work: () => Promise<void>): Promise<void> {
  busy.value = true;
  try {
    await work();
  } catch (error) {
    told.value = {
      text: (error as { sentence?: () => string }).sentence?.() ?? t("problem.unknown"),
    };
  }
  busy.value = false;
  void reload(placesInView());
}

function remove(reason: string): Promise<void> {
  const uids = [...selection.value.keys()];
  return act(async () => {
    const deleted: number[] = [];
    for (const uid of uids) deleted.push((await api.deleteStudy(uid, reason)).id);
    pickNothing();
    told.value = {
      text: t("list.deleted", { n: uids.length }),
      undo: () =>
        act(async () => {
          for (const id of deleted) await api.restoreTrash(id);
          told.value = { text: t("list.restored", { n: uids.length }) };
        }),
    };
  });
}

function protect(on: boolean): Promise<void> {
  return act(async () => {
    for (const uid of selection.value.keys()) await api.protectStudy(uid, on);
    pickNothing();
  });
}

export function Actions() {
  const dialog = useRef<HTMLDialogElement>(null);
  const rows = [...selection.value.values()];
  const [only] = rows;
  const allProtected = rows.every((row) => row.protected);
  return (
    <>
      {told.value && (
        <div class="notice" role="status">
          <p>{told.value.text}</p>
          {told.value.undo && (
            <button class="button" type="button" disabled={busy.value} onClick={told.value.undo}>
              <Icon name="undo" />
              {t("undo")}
            </button>
          )}
          <button
            class="button quiet square"
            type="button"
            aria-label={t("close")}
            onClick={() => {
              told.value = null;
            }}
          >
            <Icon name="close" />
          </button>
        </div>
      )}
      {rows.length > 0 && (
        <div class="card actions-bar" role="toolbar" aria-label={t("list.actions")}>
          <b role="status">{t("list.picked", { n: rows.length })}</b>
          {rows.length === 1 && only && (
            <a
              class="button primary"
              href={`#/viewer?studyinstanceuid=${encodeURIComponent(only.study_instance_uid)}`}
            >
              <Icon name="eye" />
              {t("list.open")}
            </a>
          )}
          {may("edit") && (
            <button
              class="button"
              type="button"
              disabled={busy.value}
              onClick={() => protect(!allProtected)}
            >
              <Icon name="lock" />
              {allProtected ? t("list.unprotect") : t("list.protect")}
            </button>
          )}
          {may("delete") && (
            <button
              class="button danger"
              type="button"
              disabled={busy.value}
              onClick={() => {
                dialog.current?.showModal();
                // a destructive dialog begins on cancel
                dialog.current?.querySelector<HTMLElement>("[data-cancel]")?.focus();
              }}
            >
              <Icon name="trash" />
              {t("list.delete")}
            </button>
          )}
          <button class="button quiet" type="button" onClick={pickNothing}>
            {t("list.pick.none")}
          </button>
        </div>
      )}
      {rows.length === 1 && only && <Preview row={only} />}
      <DeleteDialog dialog={dialog} count={rows.length} />
    </>
  );
}

interface DeleteProps {
  dialog: { current: HTMLDialogElement | null };
  count: number;
}

function DeleteDialog({ dialog, count }: DeleteProps) {
  const reason = useRef<HTMLInputElement>(null);
  return (
    <dialog ref={dialog} class="sheet-dialog">
      <form
        method="dialog"
        class="form"
        onSubmit={(event) => {
          const button = (event as SubmitEvent).submitter as HTMLButtonElement | null;
          if (button?.value === "delete") void remove(reason.current?.value.trim() ?? "");
        }}
      >
        <h2>{t("list.delete.title", { n: count })}</h2>
        <p>{t("list.delete.hint")}</p>
        <label class="field">
          <span>{t("list.delete.reason")}</span>
          <input ref={reason} class="input" maxLength={200} required />
        </label>
        <div class="actions">
          <button class="button" value="cancel" type="submit" formNoValidate data-cancel>
            {t("cancel")}
          </button>
          <button class="button danger" value="delete" type="submit">
            {t("list.delete")}
          </button>
        </div>
      </form>
    </dialog>
  );
}
