from tests.rig.rig import Rig

__all__ = ["Rig"]
