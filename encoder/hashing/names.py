"""The names of the hash functions, in plain data: no numpy, so that `--help` stays quick."""

from enum import StrEnum


class HashKind(StrEnum):
    """How the hash layers are made."""

    ITQ = "itq"
    PCAH = "pcah"
    SH = "sh"
    LSH = "lsh"
    IMH = "imh"
    KSH = "ksh"
    BRE = "bre"
    SSH = "ssh"
    CCA_ITQ = "cca-itq"

    @property
    def supervised(self) -> bool:
        """Whether the fit reads labels."""
        return self in {HashKind.KSH, HashKind.BRE, HashKind.SSH, HashKind.CCA_ITQ}

    @property
    def all_labelled(self) -> bool:
        """Whether the fit needs a label of every image."""
        return self.supervised and self is not HashKind.SSH
