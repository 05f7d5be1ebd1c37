"""Run an attack on the faces of photos and measure the change."""

from facetools.cloaking.session import Cloaked, CloakingConfig, CloakingSession

__all__ = ["Cloaked", "CloakingConfig", "CloakingSession"]
