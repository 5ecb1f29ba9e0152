"""Which way a device codes batches."""

from collections.abc import Callable

from encoder.stream.coding import Coding, Pipeline


def pipeline_for(coding: Coding, *, compile: bool, notify: Callable[[str], None]) -> Pipeline:  # noqa: A002  as torch calls it
    """Return the way of the device.

    Args:
        coding: of what, by what and how.
        compile: whether so many images are to come that compiling the network for a GPU is worth its minute.
        notify: called with a line for a person before something takes long or where something is not to be had.
    """
    device, model, settings = coding.encoder.device, coding.encoder.model, coding.settings
    if device.type == "cpu":
        from encoder.stream.cpu_pipeline import CpuPipeline

        return CpuPipeline(coding)
    from encoder.images.decoding.gpu_decode import GpuDecoder
    from encoder.model.gpu_forward import GpuForward
    from encoder.stream.gpu_pipeline import GpuPipeline

    forward = GpuForward(model, device, coding.levels, batch=settings.batch, compile=compile, notify=notify)
    return GpuPipeline(coding, forward, GpuDecoder(device, model.config.image_size, notify))
