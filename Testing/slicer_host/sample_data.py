"""The Sample Data module as other modules use it: they register sources, and users download them by name."""

from __future__ import annotations

import slicer


class SampleDataLogic:
    @staticmethod
    def registerCustomSampleDataSource(
        category="Custom",
        sampleName=None,
        uris=None,
        fileNames=None,
        nodeNames=None,
        customDownloader=None,
        thumbnailFileName=None,
        loadFileType="VolumeFile",
        loadFiles=None,
        loadFileProperties=None,
        checksums=None,
    ):
        if not all(isinstance(value, str) for value in (uris, fileNames, nodeNames)):
            raise TypeError("a single source needs uris, fileNames and nodeNames as strings")
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        if sampleName not in [source["sampleName"] for source in sources]:
            sources.append(
                {"sampleName": sampleName, "customDownloader": customDownloader, "thumbnailFileName": thumbnailFileName}
            )


def click(sample_name: str):
    """What the button of a sample does."""
    for sources in slicer.modules.sampleDataSources.values():
        for source in sources:
            if source["sampleName"] == sample_name:
                return source["customDownloader"](source)
    raise KeyError(sample_name)
