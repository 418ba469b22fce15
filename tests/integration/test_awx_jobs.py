# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates' playbooks as AWX runs them, against a live machine."""

from __future__ import annotations

import pytest

from integration.awx import run_job, synchronized
from integration.networks import Network, import_deploy, standing

pytestmark = pytest.mark.one_pair


def test_a_job_deploys_with_the_answers_of_its_survey(machine, project):
    target = machine("target")
    network = Network(project, target)
    import_deploy(project)
    project.configure()
    inventory = synchronized(project, f"{network.name}.network.yml")
    answers = {"deploy_machines": "deployment_example", "deploy_action": "switch", "deploy_check_health": "false"}
    before = standing(target)
    outcome = run_job(project, "deploy.yml", inventory, answers=answers, ssh_key=target.identity_file)
    assert outcome.exit_code == 0, outcome.output
    assert "target> deployment finished successfully" in outcome.output
    assert standing(target) != before
