"""Saving, loading and pushing of models by the mixin of the Hugging Face hub, which is imported at first use.

``huggingface_hub`` takes an eighth of the time of ``import torch`` to import, and answers need none of it.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

_OF_MIXIN = ("__new__", "from_pretrained", "generate_model_card", "push_to_hub", "save_pretrained")


class OnHub:
    """Base of what is saved to the hub; methods and files are those of the mixin that ``HUB_MIXIN`` names.

    Class attributes:
        HUB_MIXIN: a class of ``huggingface_hub``. What it asks its subclasses for (``_save_pretrained``,
            ``_from_pretrained``) is asked of ours.
    """

    HUB_MIXIN: ClassVar[str] = "ModelHubMixin"

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Remember the arguments: the mixin writes those that JSON can hold to config.json."""
        made = super().__new__(cls)
        made.__dict__["_arguments"] = args, options
        return made

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write a folder that ``from_pretrained`` reads.

        Args:
            save_directory: the folder.
            options: of ``ModelHubMixin.save_pretrained``.
        """
        saved: str | None = _on_hub(self).save_pretrained(save_directory, **options)
        return saved

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload to the hub what ``save_pretrained`` writes.

        Args:
            repo_id: the repository.
            options: of ``ModelHubMixin.push_to_hub``.

        Returns:
            Address of the commit.
        """
        return str(_on_hub(self).push_to_hub(repo_id, **options))

    def generate_model_card(self, *args: Any, **options: Any) -> ModelCard:
        """The model card, by the template of the hub unless a subclass has a better one."""
        card: ModelCard = _on_hub(self).generate_model_card(*args, **options)
        return card

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """Read what ``save_pretrained`` wrote, from a folder or from the hub.

        Args:
            pretrained_model_name_or_path: a folder, or a repository of the hub.
            options: of ``ModelHubMixin.from_pretrained``.
        """
        found = _hub_class(cls).from_pretrained(pretrained_model_name_or_path, **options)
        found.__class__ = cls
        loaded: Self = found
        return loaded


def _hub_class(of: type[OnHub]) -> Any:
    """Subclass that has the mixin of the hub, and the mixin's methods where ``of`` has none of its own."""
    import huggingface_hub

    mixin = getattr(huggingface_hub, of.HUB_MIXIN)
    taken = {
        name: inspect.getattr_static(mixin, name)
        for name in _OF_MIXIN
        if inspect.getattr_static(of, name) is vars(OnHub)[name]
    }
    own = {name: getattr(of, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(of.__name__, (of, mixin), taken | own)


def _on_hub(one: OnHub) -> Any:
    """The same object with the mixin of the hub: it shares all attributes."""
    hub_class = _hub_class(type(one))
    args, options = one.__dict__.get("_arguments", ((), {}))
    view = hub_class.__new__(hub_class, *args, **options)
    view.__dict__.update(one.__dict__)
    return view
