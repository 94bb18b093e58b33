"""The app of Django that has the command `emq_work`."""

from django.apps import AppConfig


class EMQConfig(AppConfig):
    """Without models; its label is not that of Django."""

    name = "emq.django"
    label = "emq"
    verbose_name = "emq"
