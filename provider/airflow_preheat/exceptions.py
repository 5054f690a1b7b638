"""Every error that the provider raises on purpose; all fail the task, those marked * without a retry.

PreheatError (AirflowException)
├── PreheatRequestError *         the coordinator refused what was asked for, or the connection is not usable
├── PreheatUnavailableError       the coordinator, its engine or the under store does not answer now
│   └── PreheatUnreachableError   no coordinator answers at the connection's URL
├── PreheatJobNotFoundError       the coordinator does not know the job (any more)
├── PreheatVersionUnknownError    the coordinator does not know the dataset version, or not yet
├── PreheatJobFailedError         the job ended FAILED
├── PreheatJobStoppedError        somebody stopped the job
└── PreheatDeadlineError          the job had not ended by the deadline, and was cancelled

A message names the value and ends with the next step, as the coordinator gave it where it did.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException


class PreheatError(AirflowException):
    """Something failed between Airflow and the cache."""


class PreheatRequestError(PreheatError, AirflowFailException):
    """The request cannot succeed as it is; trying again would not help."""


class PreheatUnavailableError(PreheatError):
    """A part that is needed does not answer now."""


class PreheatUnreachableError(PreheatUnavailableError):
    """No coordinator answers at the connection's URL."""


class PreheatJobNotFoundError(PreheatError):
    """The coordinator does not know the job."""


class PreheatVersionUnknownError(PreheatError):
    """No load that is known has listed this dataset version, or not yet."""


class PreheatJobFailedError(PreheatError):
    """The job ended FAILED."""


class PreheatJobStoppedError(PreheatError):
    """The job was stopped before its end."""


class PreheatDeadlineError(PreheatError):
    """The job had not ended by the task's deadline."""
