"""What the control methods see of the daemon: `control.view.View`, answered from its parts, one file a subject."""

from __future__ import annotations

from trafficmond import __version__
from trafficmond.answers.bans import BanAnswers
from trafficmond.answers.explain import ExplainAnswers
from trafficmond.answers.flows import FlowAnswers
from trafficmond.answers.rules import RuleAnswers
from trafficmond.answers.status import StatusAnswers


class Answers(StatusAnswers, RuleAnswers, FlowAnswers, ExplainAnswers, BanAnswers):
    """The daemon as the control methods see it."""

    version = __version__
