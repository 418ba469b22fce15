# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Detects jobs of AWX (awx/main/tasks/jobs.py in AWX)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any


def job_directory(environment: Mapping[str, str] | None = None) -> str | None:
    """Return the directory of the job's files, which are gone at its end; None if this run is not a job of AWX.

    :param environment: the variables of the process; None for those of this one.
    """
    return (os.environ if environment is None else environment).get("AWX_PRIVATE_DATA_DIR")


def may_be_slice(variables: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> bool:
    """Return whether this run may be one slice of a job, whose inventory may have none of the machines.

    AWX does not tell a job its slice. The slices of a job are a workflow of the name of the job's template
    (``JobTemplate.create_unified_job`` in awx/main/models/jobs.py). Other workflows have other names.

    :param variables: those of a task.
    :param environment: the variables of the process; None for those of this one.
    """
    template = variables.get("awx_job_template_name")
    is_of_template = template is not None and variables.get("awx_workflow_job_name") == template
    return job_directory(environment) is not None and is_of_template
