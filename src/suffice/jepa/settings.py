"""The settings of a training run: the objective and the recipe."""

from enum import StrEnum

from msgspec import Struct

from suffice.errors import InputError


class Distance(StrEnum):
    """The latent loss: a distance between a predicted view and the actual one, or TUBE.

    TUBE is Semantic Tube Prediction: it needs no second view, and bends the hidden states of the
    conversation itself towards a straight line (`objective.distance` has the formula).
    """

    COSINE = "cosine"
    MSE = "mse"
    INFONCE = "infonce"
    TUBE = "tube"


class Labels(StrEnum):
    """The tokens that the next-token loss trains.

    ANSWER: the answer and its end token, by position. REFERENCE: every token of the rendered
    conversation that differs from the pad token, as in the reference implementation of arXiv
    2509.14252; so the end token is not trained if it is the pad token.
    """

    ANSWER = "answer"
    REFERENCE = "reference"


class Precision(StrEnum):
    """The number format of the forward and backward pass; weights stay float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Objective(Struct, frozen=True, kw_only=True):
    """Next-token loss + `weight` x distance + `sigreg_weight` x SIGReg.

    `weight` 0 is plain fine-tuning, without predictor tokens and second view. `predictors` is the
    number of predictor tokens; with 0, the state of the last prompt token predicts the view. TUBE
    ignores it. `dropout` is the share of steps without the latent loss.
    """

    weight: float = 1.0
    distance: Distance = Distance.COSINE
    predictors: int = 1
    temperature: float = 0.07
    dropout: float = 0.0
    sigreg_weight: float = 0.0
    labels: Labels = Labels.ANSWER

    @property
    def predicts(self) -> bool:
        """Whether any step has a second view."""
        return self.weight > 0 and self.dropout < 1 and self.distance is not Distance.TUBE

    @property
    def predictor_tokens(self) -> int:
        """The number of predictor tokens that the objective trains."""
        return self.predictors if self.predicts else 0


def usual_weight(distance: Distance) -> float:
    """Return the weight that the paper of a distance used: 0.02 for TUBE, otherwise 1."""
    return 0.02 if distance is Distance.TUBE else Objective().weight


class TrainingRecipe(Struct, frozen=True, kw_only=True):
    """All other settings of a run; a resumed run must have the same.

    `batch_examples` is the number of examples per step and process. `row_tokens` is the width of
    packed rows; a longer example gets a wider row. `max_tokens` is the longest conversation, None
    for the context of the model. `warmup_share` is the share of steps with a rising learning rate.
    """

    objective: Objective = Objective()
    epochs: int = 4
    batch_examples: int = 16
    row_tokens: int = 256
    max_tokens: int | None = None
    learning_rate: float = 2e-5
    weight_decay: float = 0.0
    warmup_share: float = 0.05
    clip_norm: float = 1.0
    lora_rank: int | None = None
    precision: Precision = Precision.FLOAT32
    seed: int = 0


_AT_LEAST_ONE = ("epochs", "batch_examples", "row_tokens")


def check(recipe: TrainingRecipe) -> TrainingRecipe:
    """Return the recipe; raises InputError for a value out of its range."""
    for name in _AT_LEAST_ONE:
        _require(getattr(recipe, name) >= 1, f"{name} must be at least 1")
    _require(
        recipe.learning_rate > 0, "learning_rate must be above 0", hint="2e-5 is a usual value"
    )
    _require(0 <= recipe.warmup_share < 1, "warmup_share must lie in [0, 1)")
    _require(recipe.max_tokens is None or recipe.max_tokens >= 2, "max_tokens must be at least 2")
    _require(recipe.lora_rank is None or recipe.lora_rank >= 1, "lora_rank must be at least 1")
    objective = recipe.objective
    _check_objective(objective)
    compares = objective.distance is Distance.INFONCE or objective.sigreg_weight > 0
    _require(
        not (objective.predicts and compares) or recipe.batch_examples >= 2,
        "infonce and sigreg compare the examples of a batch, so one example teaches nothing",
        hint="use a batch of 2 or more",
    )
    return recipe


def _check_objective(objective: Objective) -> None:
    _require(objective.weight >= 0, "the weight of the latent loss must not be negative")
    _require(objective.sigreg_weight >= 0, "the weight of SIGReg must not be negative")
    _require(objective.predictors >= 0, "the number of predictor tokens must not be negative")
    _require(objective.temperature > 0, "the temperature must be above 0", hint="0.07 is usual")
    _require(0 <= objective.dropout <= 1, "loss dropout is a share of steps, in [0, 1]")
    _require(
        objective.sigreg_weight == 0 or objective.predicts,
        "sigreg regularises the views, but this objective has none",
        hint="give the latent loss a weight above 0 and a distance between views",
    )


def _require(holds: bool, message: str, *, hint: str | None = None) -> None:  # noqa: FBT001
    if not holds:
        raise InputError(message, hint=hint)
