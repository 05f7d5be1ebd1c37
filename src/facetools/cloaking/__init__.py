"""Run an attack on the faces of photos and measure the change."""

from facetools.cloaking.config import CloakingConfig
from facetools.cloaking.session import CloakingSession

__all__ = ["CloakingConfig", "CloakingSession"]
