// The Java context: JShell, in this process. It is told paths of files with requests, and says on a
// descriptor of its own what came of them; see `java.py`.

import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import jdk.jshell.Diag;
import jdk.jshell.EvalException;
import jdk.jshell.JShell;
import jdk.jshell.Snippet;
import jdk.jshell.SnippetEvent;
import jdk.jshell.execution.LocalExecutionControlProvider;

public class Kernel {
    private static OutputStream said;
    private static JShell shell;
    private static volatile boolean interrupted;

    public static void main(String[] args) throws Exception {
        said = new FileOutputStream("/proc/self/fd/" + args[0]);
        var told = new BufferedReader(new InputStreamReader(
            new FileInputStream("/proc/self/fd/" + args[1]), StandardCharsets.UTF_8));
        shell = JShell.builder().executionEngine(new LocalExecutionControlProvider(), null).build();
        for (String name : List.of("java.io.*", "java.math.*", "java.nio.file.*", "java.util.*",
                "java.util.concurrent.*", "java.util.function.*", "java.util.regex.*",
                "java.util.stream.*"))
            shell.eval("import " + name + ";");
        sun.misc.Signal.handle(new sun.misc.Signal("INT"), signal -> {
            interrupted = true;
            shell.stop();
        });
        for (String path; (path = told.readLine()) != null; ) {
            int space = path.indexOf(' ');
            interrupted = false;
            run(Files.readString(Path.of(path.substring(space + 1))));
            System.out.flush();
            System.err.flush();
            say("{\"over\": " + path.substring(0, space) + "}");
        }
        System.exit(0);
    }

    private static void run(String code) throws IOException {
        String rest = code;
        while (!rest.isBlank()) {
            var part = shell.sourceCodeAnalysis().analyzeCompletion(rest);
            if (part.source() == null) {
                raise("SyntaxError", "the code is not complete", rest.strip());
                return;
            }
            rest = part.remaining();
            for (SnippetEvent event : shell.eval(part.source()))
                if (event.causeSnippet() == null && !tell(event, rest.isBlank())) return;
            if (interrupted) {
                raise("Interrupted", "", "");
                return;
            }
        }
    }

    /** Whether what follows may be run. */
    private static boolean tell(SnippetEvent event, boolean last) throws IOException {
        if (event.status() == Snippet.Status.REJECTED) {
            String text = shell.diagnostics(event.snippet()).filter(Diag::isError)
                .map(error -> error.getMessage(Locale.ROOT)).collect(Collectors.joining("\n"));
            raise("SyntaxError", text, event.snippet().source().strip() + "\n" + text);
            return false;
        }
        if (event.exception() instanceof EvalException error) {
            String head = error.getExceptionClassName() + ": " + error.getMessage();
            String trace = java.util.Arrays.stream(error.getStackTrace())
                .map(frame -> "\n    at " + frame).collect(Collectors.joining());
            raise(error.getExceptionClassName(), String.valueOf(error.getMessage()), head + trace);
            return false;
        }
        if (event.exception() != null) {
            raise(event.exception().getClass().getSimpleName(), event.exception().getMessage(), "");
            return false;
        }
        boolean value = event.snippet().kind() == Snippet.Kind.EXPRESSION
            || event.snippet().subKind() == Snippet.SubKind.TEMP_VAR_EXPRESSION_SUBKIND;
        if (value && event.value() != null && !event.value().isEmpty() && last)
            say("{\"type\": \"result\", \"main\": true, \"text\": " + quoted(event.value()) + "}");
        return true;
    }

    private static void raise(String name, String value, String traceback) throws IOException {
        System.out.flush();
        say("{\"type\": \"exception\", \"name\": " + quoted(name) + ", \"value\": " + quoted(value)
            + ", \"traceback\": " + quoted(traceback) + "}");
    }

    private static String quoted(String text) {
        var out = new StringBuilder("\"");
        for (char each : text.toCharArray()) {
            if (each == '"' || each == '\\') out.append('\\').append(each);
            else if (each < 32 || Character.isSurrogate(each))
                out.append(String.format("\\u%04x", (int) each));
            else out.append(each);
        }
        return out.append('"').toString();
    }

    private static void say(String document) throws IOException {
        said.write((document + "\n").getBytes(StandardCharsets.UTF_8));
        said.flush();
    }
}
