"""Statistical promises on a risk: bounds, searches, certificates and live monitors.

Arrays in, numbers out; nothing here knows about requests, rungs or engines.
"""

from suffice.guarantee.bounds import clopper_pearson_interval, losses_allowed, rows_needed
from suffice.guarantee.calibrate import (
    Calibration,
    Evidence,
    PartBound,
    RiskKind,
    calibrate,
    least_abstention,
    part_bounds,
)
from suffice.guarantee.certificate import (
    Certificate,
    CheckErrors,
    LabelSource,
    Scope,
    Splits,
    Terms,
    check,
    content_hash,
    from_json,
    issue,
    to_json,
)
from suffice.guarantee.clusters import Clusters, Per, largest_cluster, number_clusters
from suffice.guarantee.lineage import RENEWALS, Lineage, share_requests, sketch_of
from suffice.guarantee.losses import LabelledLosses, Sample
from suffice.guarantee.methods import Method, clusters_needed, method_for, p_value, upper_bound
from suffice.guarantee.monitor import (
    GroupMonitors,
    Monitor,
    MonitorChange,
    delay_limit,
    expected_delay,
    skip,
    spare,
    update,
    update_group,
    update_many,
    watch_groups,
)

__all__ = [
    "RENEWALS",
    "Calibration",
    "Certificate",
    "CheckErrors",
    "Clusters",
    "Evidence",
    "GroupMonitors",
    "LabelSource",
    "LabelledLosses",
    "Lineage",
    "Method",
    "Monitor",
    "MonitorChange",
    "PartBound",
    "Per",
    "RiskKind",
    "Sample",
    "Scope",
    "Splits",
    "Terms",
    "calibrate",
    "check",
    "clopper_pearson_interval",
    "clusters_needed",
    "content_hash",
    "delay_limit",
    "expected_delay",
    "from_json",
    "issue",
    "largest_cluster",
    "least_abstention",
    "losses_allowed",
    "method_for",
    "number_clusters",
    "p_value",
    "part_bounds",
    "rows_needed",
    "share_requests",
    "sketch_of",
    "skip",
    "spare",
    "to_json",
    "update",
    "update_group",
    "update_many",
    "upper_bound",
    "watch_groups",
]
