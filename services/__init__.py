"""The three services and the chassis they are built on. Run from a checkout or an image; never
installed."""

from cxreval.errors import ExtraMissing
from cxreval.extras import require_extra


def require(extra: str, purpose: str, *modules: str) -> None:
    """Ends the process with one sentence where a module of the extra is not installed."""
    try:
        require_extra(extra, purpose, *modules)
    except ExtraMissing as error:
        raise SystemExit(f"error: {error.reason}: {error.message}") from None


require(
    "server",
    "a service of cxreval",
    *("alembic", "grpc_health", "grpc_reflection", "prometheus_client", "sqlalchemy"),
)
