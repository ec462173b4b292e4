"""``python -m engines.gpu_part PART MODEL MAX_BATCH PLANS``: one part of `engines.gpu_check`, in its own process.

Its last line on standard output is a JSON object with verdict, why and figures. Exit status 0 whenever there is one.
"""

import json
import logging
import sys
from pathlib import Path

from engines.gpu_check import PartReport, Verdict
from engines.gpu_parts import PARTS, Plan
from engines.runner import EngineUnavailableError


def report_on(part: str, plan: Plan) -> PartReport:
    """Run a part; never raises, since the other parts are to run whatever becomes of this one."""
    try:
        return PartReport(part, Verdict.IN_ORDER, None, PARTS[part](plan))
    except EngineUnavailableError as error:
        return PartReport(part, Verdict.NOT_RUN, str(error))
    except Exception as error:  # the border of the part: the report has it, and standard error the traceback
        logging.getLogger(__name__).exception("%s failed", part)
        return PartReport(part, Verdict.FAILED, f"{type(error).__name__}: {error}")


def main() -> None:
    """Run the part named on the command line."""
    logging.basicConfig(level=logging.WARNING)
    part, model, max_batch, plans = sys.argv[1:]
    report = report_on(part, Plan(Path(model), int(max_batch), Path(plans)))
    print(json.dumps({"verdict": report.verdict, "why": report.why, "figures": report.figures}))


if __name__ == "__main__":
    main()
