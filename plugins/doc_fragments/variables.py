# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of options that are taken from variables."""

from __future__ import annotations


class ModuleDocFragment:
    """The names of variables."""

    DOCUMENTATION = r"""
options:
  variables:
    description:
      - Options of this module that are taken from variables, each with the name of its variable. V(my_profile) for
        C(profile) does the same as C({{ my_profile }}) as the option itself.
      - Many hosts take less time with it, since Ansible compiles each template anew for each host.
      - An option has its default if its variable is not defined, or an empty text.
      - An option that is given as well wins.
    type: dict
    default: {}
"""
