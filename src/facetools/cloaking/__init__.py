"""Run an attack on the faces of photos and measure the change."""

from facetools.cloaking.config import CloakingConfig
from facetools.cloaking.session import Cloaked, CloakingSession

__all__ = ["Cloaked", "CloakingConfig", "CloakingSession"]
