"""The trust check: is a spiking model the function of its input that it claims to be? For our models and anybody's."""

from saccade.verify.result import Check, Verification
from saccade.verify.suite import verify
from saccade.verify.targets import profile_target, verify_target
from saccade.verify.waking import firing_rates, wake

__all__ = ["Check", "Verification", "firing_rates", "profile_target", "verify", "verify_target", "wake"]
