// SPDX-License-Identifier: Apache-2.0
// One line of the study list as the box answers it.

export interface PersonName {
  alphabetic: string;
  ideographic: string;
  phonetic: string;
}

export interface StudyRow {
  study_instance_uid: string;
  patient_name: PersonName;
  patient_id: string;
  patient_birth_date: string;
  patient_sex: string;
  study_date: string;
  study_time: string;
  study_id: string;
  accession_number: string;
  study_description: string;
  referring_physician_name: PersonName;
  institution_name: string;
  body_parts: string[];
  modalities: string[];
  number_of_series: number;
  number_of_instances: number;
  size_bytes: number;
  received_first: string;
  received_last: string;
  verified_on: string | null;
  protected: boolean;
}

export interface Page {
  total: number;
  offset: number;
  rows: StudyRow[];
}
