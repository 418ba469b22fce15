# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a job of AWX knows of itself."""

from __future__ import annotations

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.awx import job


@pytest.mark.parametrize(
    ("variables", "is_slice"),
    [
        ({}, False),
        ({"awx_job_template_name": "deploy"}, False),
        ({"awx_job_template_name": "deploy", "awx_workflow_job_name": "deploy"}, True),
        ({"awx_job_template_name": "deploy", "awx_workflow_job_name": "preview, approve, deploy"}, False),
    ],
)
def test_the_slices_of_a_job_are_a_workflow_of_its_name(variables: dict[str, str], is_slice: bool) -> None:
    assert job.may_be_slice(variables, {"AWX_PRIVATE_DATA_DIR": "/runner"}) == is_slice
    assert not job.may_be_slice(variables, {})
