"""Parts of a checkpoint beside the language model: towers for pictures, and draft heads."""

from suffice.silicon.checkpoint.feeds import Feeds
from suffice.silicon.checkpoint.fields import Config, ConfigFields
from suffice.silicon.checkpoint.mixers import Mixers
from suffice.silicon.matrices import (
    attention_matrices,
    expert_matrices,
    feed_forward_matrices,
    shared_matrices,
)

TOWERS = ("vision_config", "audio_config", "visual")
WIDTHS = ("hidden_size", "embed_dim", "width", "d_model")
DEPTHS = ("num_hidden_layers", "depth", "layers", "encoder_layers", "num_layers")


def vision_params(config: Config) -> int | None:
    """Parameters of the towers for pictures and sound, to about a tenth; None if not stated.

    A plain transformer is assumed: four square attention matrices and two of the inner width.
    """
    total = 0
    for name in TOWERS:
        tower = config.get(name)
        if not isinstance(tower, dict) or not tower:
            continue
        width = next((tower[key] for key in WIDTHS if isinstance(tower.get(key), int)), None)
        depth = next((tower[key] for key in DEPTHS if isinstance(tower.get(key), int)), None)
        if width is None or depth is None:
            return None
        depth += tower.get("num_global_layers") or 0  # Llama 3.2: after the others, not of them
        inner = tower.get("intermediate_size") or tower.get("encoder_ffn_dim")
        inner = inner or int(width * (tower.get("mlp_ratio") or 4))
        total += depth * (4 * width * width + 2 * width * inner)
        patch = tower.get("patch_size")
        total += 3 * patch * patch * width if isinstance(patch, int) else 0
    return total


def draft_head_params(fields: ConfigFields, *, mixing: Mixers, feeds: Feeds, hidden: int) -> int:
    """Parameters of heads that draft the next tokens (MTP): each one layer and a joining matrix.

    A head has the last layer's mixer and the model's experts; its embedding and output matrix are
    those of the model.
    """
    names = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules")
    count = next((value for name in names if (value := fields.number(name))), 0)
    if not count:
        return 0
    mixer = next((layer for layer in reversed(mixing) if layer), [])
    params = sum(sum(attention_matrices(block, hidden=hidden).values()) for block in mixer[-1:])
    if feeds.experts:
        params += sum(shared_matrices(feeds.experts, hidden=hidden).values())
        params += feeds.experts.count * sum(expert_matrices(feeds.experts, hidden=hidden).values())
    else:
        dense = next((layer for layer in reversed(feeds.dense) if layer), [])
        params += sum(sum(feed_forward_matrices(b, hidden=hidden).values()) for b in dense)
    return int(count * (params + 2 * hidden * hidden))
