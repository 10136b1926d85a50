"""Avocado's plug-in for settings. Every Avocado process loads it, so it imports nothing heavy."""

from avocado.core.plugin_interfaces import Settings

from cpuidlab.base.paths import PROJECT


class ProjectSettings(Settings):  # type: ignore[misc]  # Avocado has no types
    """Has Avocado read the project's avocado.cfg; the user's own configuration comes after it and wins."""

    name = "cpuidlab"
    description = "Reads the project's avocado.cfg"

    def adjust_settings_paths(self, paths: list[str]) -> None:
        """Add the file to those that Avocado reads."""
        paths.append(str(PROJECT / "avocado.cfg"))
