# SPDX-License-Identifier: Apache-2.0
"""Why something about a job was refused."""

from typing import ClassVar

from scrigno.core.errors import ScrignoError


class JobError(ScrignoError):
    """The root of what jobs refuse."""

    code: ClassVar[str] = "job-refused"


class UnknownJob(JobError):
    """There is no such job, or it is not yours to see."""

    code: ClassVar[str] = "unknown-job"


class JobRefused(JobError):
    """The job is not in a state for that."""

    code: ClassVar[str] = "job-refused"


class TooManyJobs(JobError):
    """As many jobs wait as the box keeps."""

    code: ClassVar[str] = "too-many-jobs"


class ResultsFull(JobError):
    """The space for results is used up."""

    code: ClassVar[str] = "results-full"
