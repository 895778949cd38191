"""What the local run needs of template.yaml, with parameters and intrinsic functions resolved by SAM CLI."""

import logging
import os
from pathlib import Path

from samcli.commands.local.lib.local_lambda import LocalLambdaRunner
from samcli.lib.providers.api_provider import ApiProvider
from samcli.lib.providers.provider import Api
from samcli.lib.providers.provider import Function as SamFunction
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider

from local.environments.function import Function
from local.gateway.responses import GatewayResponses


class Template:
    def __init__(self, file: Path) -> None:
        logging.getLogger("samcli").setLevel(logging.ERROR)
        # The functions take this variable's value by themselves; preflights and the gateway's errors do not.
        origin = os.environ.get("CORS_ALLOWED_ORIGIN")
        overrides = {"CorsAllowedOrigin": origin} if origin else {}
        stacks, _ = SamLocalStackProvider.get_stacks(str(file), parameter_overrides=overrides)
        self.api: Api = ApiProvider(stacks, cwd=str(file.parent)).api
        self.responses = GatewayResponses(stacks[0].resources["Api"]["Properties"].get("GatewayResponses") or {})
        # It would start containers; here it only says how.
        self.runner = LocalLambdaRunner(None, SamFunctionProvider(stacks), str(file.parent), str(file.parent))
        self.functions = {found.name: self._function(found) for found in self.runner.provider.get_all()}

    def _function(self, found: SamFunction) -> Function:
        """A variable that the template gives it may have another value in os.environ."""
        config = self.runner.get_invoke_config(found)
        return Function(
            name=config.name,
            handler=config.handler,
            folder=Path(config.code_abs_path),
            layers=tuple(Path(layer.codeuri).resolve() for layer in config.layers),
            timeout=config.timeout,
            variables=config.env_vars.resolve(),
        )
