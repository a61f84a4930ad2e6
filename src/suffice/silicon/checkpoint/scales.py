"""What scales of quantised weights take, and how many neighbours share one."""

from typing import Any

SCALE_BITS = 16.0


def scale_block(statement: Any) -> int:
    """Find how many weights share a scale, by the widest group or block that a file states.

    Engines pad MXFP4, so that it may be cut anywhere.
    """
    config = _table(statement)
    if config.get("quant_method") == "mxfp4":
        return 1
    sizes: list[Any] = [1]
    for table in _weight_tables(config):
        for key in ("group_size", "q_group_size", "weight_block_size", "block_structure"):
            value = table.get(key)
            sizes += value if isinstance(value, list) else [value]
    return max(size for size in sizes if isinstance(size, int))


def integer_scale_bits(statement: Any) -> float | None:
    """Bits that scales and zero points add to each whole-number weight, None where not stated.

    A group has a scale of 16 bits. AWQ and GPTQ keep a zero point beside it as wide as a weight,
    compressed-tensors only where weights are not symmetric, HQQ one of 16 bits.
    """
    config = _table(statement)
    method = str(config.get("quant_method")).lower()
    for table in _weight_tables(config):
        group = table.get("group_size") or table.get("q_group_size")
        bits = next(
            (table[k] for k in ("bits", "w_bit", "num_bits", "nbits") if table.get(k)), None
        )
        if isinstance(group, int) and group > 1 and isinstance(bits, int):
            symmetric = table.get("symmetric", table is not config)
            zero = SCALE_BITS if method == "hqq" else 0.0 if symmetric else bits
            return (SCALE_BITS + zero) / group
    return None


def _table(statement: Any) -> dict[str, Any]:
    config = statement if isinstance(statement, dict) else {}
    return config.get("quantization") or config


def _weight_tables(config: dict[str, Any]) -> list[dict[str, Any]]:
    """List the tables that may state a group: the file's own, those of its groups and of HQQ."""
    groups = config.get("config_groups")
    tables = [config, *(groups.values() if isinstance(groups, dict) else ())]
    tables += [part for table in tables if isinstance(part := table.get("weights"), dict)]
    nested = config.get("quant_config")
    if isinstance(nested, dict) and isinstance(nested.get("weight_quant_params"), dict):
        tables.append(nested["weight_quant_params"])
    return tables
