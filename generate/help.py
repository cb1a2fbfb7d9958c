"""How the commands tell what they take: argparse's help, in the language of the terminal."""

import argparse

from generate.languages import N_, gettext

# what argparse says itself; it asks Python's gettext, which `languages.speak_as_asked` leads to our catalogue
ITS_OWN = (
    N_("usage: "),
    N_("positional arguments"),
    N_("options"),
    N_("show this help message and exit"),
    N_("%(prog)s: error: %(message)s\n"),
    N_("argument %(argument_name)s: %(message)s"),
    N_("the following arguments are required: %s"),
    N_("unrecognized arguments: %s"),
    N_("expected one argument"),
    N_("invalid choice: %(value)r (choose from %(choices)s)"),
    N_("invalid %(type)s value: %(value)r"),
    N_("not allowed with argument %s"),
)


class Help(argparse.HelpFormatter):
    """Each description, heading and meaning of an option as the catalogue has it."""

    def start_section(self, heading: str | None) -> None:
        """Begin a group of options."""
        super().start_section(gettext(heading) if heading else heading)

    def add_text(self, text: str | None) -> None:
        """A description, or what stands at the end."""
        super().add_text(gettext(text) if isinstance(text, str) and text is not argparse.SUPPRESS else text)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return gettext(action.help) if action.help else action.help


class RawHelp(Help, argparse.RawDescriptionHelpFormatter):
    """The same, with the line breaks of descriptions as they are."""
