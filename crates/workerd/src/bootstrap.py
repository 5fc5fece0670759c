# Turns the interpreter into a worker. Has to be understood, up to its refusal, by any Python there is.
import os, sys


def check():
    implementation = getattr(getattr(sys, "implementation", None), "name", "python")
    if implementation != "cpython":
        raise ImportError("CPython is needed, and this is %s: set `python` to one" % implementation)
    if sys.version_info < (3, 10):
        raise ImportError("CPython 3.10 or newer is needed: set `python` to one, or create the virtualenv with one")
    if "t" in sys.abiflags:
        raise ImportError("a free-threaded build cannot load extensions of the stable ABI: use one with the GIL")


def load(path):
    from importlib.machinery import ExtensionFileLoader, ModuleSpec

    # `importlib.util` would do the same, and import a dozen modules that the app may never need.
    loader = ExtensionFileLoader("_imperium", path)
    module = loader.create_module(ModuleSpec("_imperium", loader, origin=path))
    loader.exec_module(module)
    return module


def main(extension, workerd, emperord, log_format, mode, name, generation=None):
    try:
        check()
        module = load(extension)
    except Exception as error:
        why = "use interpreter %s (%s): %s" % (sys.executable, sys.version.split()[0], error)
        role = ["--template", name] if generation is None else [name]
        options = ["--emperord", emperord, "--log-format", log_format, "--report-interpreter", why]
        if mode == "development":
            options.append("--development")
        os.execv(workerd, [workerd] + role + options)
    if generation is None:
        return module.run_template(name, emperord, log_format)
    return module.run(name, emperord, log_format, int(generation))


sys.exit(main(*sys.argv[1:]))
