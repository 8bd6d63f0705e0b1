"""What every package of the learning-data platform shares.

Each part is a module of its own and is imported where it is used; this door stays light, so that `import ol_core` costs
nothing and pulls in neither Dagster nor any vendor's library.
"""

from ol_core.failures import OlError, PermanentFailure, TransientFailure, UpstreamMissing

__all__ = ["OlError", "PermanentFailure", "TransientFailure", "UpstreamMissing"]
