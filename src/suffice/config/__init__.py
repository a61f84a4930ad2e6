"""`suffice.toml`: the one strict file that names engines, rungs, prices and targets."""

from suffice.config.checks import check_unit, nearest
from suffice.config.reading import load_config, named_structs, parse_config, to_struct
from suffice.config.sections import (
    POLICY_MODEL,
    CheckConfig,
    Config,
    DialectName,
    EngineConfig,
    GatewayConfig,
    PriceConfig,
    Targets,
)

__all__ = [
    "POLICY_MODEL",
    "CheckConfig",
    "Config",
    "DialectName",
    "EngineConfig",
    "GatewayConfig",
    "PriceConfig",
    "Targets",
    "check_unit",
    "load_config",
    "named_structs",
    "nearest",
    "parse_config",
    "to_struct",
]
