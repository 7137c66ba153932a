"""The methods by name."""

from sacma.models.base import Method
from sacma.models.sacma import SACMA

METHODS: dict[str, type[Method]] = {
    "sacma": SACMA,
}
