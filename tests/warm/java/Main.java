import java.io.*;
import java.net.*;
import java.nio.ByteBuffer;
import java.nio.charset.Charset;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

/** Small programs, of which the variable MODE names the one to run: each is compared warm and cold. */
public class Main {
    static void kill(String signal) throws Exception {
        String pid = Long.toString(ProcessHandle.current().pid());
        new ProcessBuilder("kill", "-" + signal, pid).inheritIO().start().waitFor();
        Thread.sleep(10_000);
    }

    static String target(Path path) {
        try {
            return Files.readSymbolicLink(path).toString().replaceAll("\\d+", "N");
        } catch (IOException gone) {
            return "";
        }
    }

    static int deep(int n) {
        return deep(n + 1) + 1;
    }

    static String lines(Path file, String pattern) throws IOException {
        try (Stream<String> lines = Files.lines(file)) {
            return lines.filter(line -> line.matches(pattern)).collect(Collectors.joining("\n"));
        }
    }

    static void run(String mode, String[] args) throws Exception {
        switch (mode) {
            case "hello" -> System.out.println("hello");
            case "env" -> System.out.println(new TreeMap<>(System.getenv()));
            case "env-order" -> System.out.println(System.getenv().keySet());
            case "properties" -> new TreeMap<>(System.getProperties()).forEach(
                    (name, value) -> System.out.println(name + "=" + value));
            case "arguments" -> System.out.println(args.length + Arrays.toString(args));
            case "where" -> System.out.println(Path.of("").toAbsolutePath() + " " + new File(".").getCanonicalPath());
            case "lines" -> {
                BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
                for (String line; (line = in.readLine()) != null; ) System.out.println("[" + line + "]");
            }
            case "scanner" -> {
                Scanner in = new Scanner(System.in);
                System.out.println(in.nextInt() + in.nextInt() + " " + in.nextDouble() + in.hasNext());
            }
            case "bytes" -> System.out.println(Arrays.toString(System.in.readAllBytes()));
            case "empty" -> System.out.println(System.in.read() + " " + System.console());
            case "much" -> IntStream.range(0, 20_000).forEach(i -> System.out.println("line " + i));
            case "errors" -> System.err.println("bad é");
            case "raw" -> System.out.write(new byte[] {0, -1, 10, 13});
            case "letters" -> System.out.println("é 漢 \uD83D\uDE00 " + System.getenv("WORD"));
            case "exit" -> System.exit(7);
            case "halt" -> Runtime.getRuntime().halt(8);
            case "throw" -> { throw new IllegalStateException("bad", new IOException("cause")); }
            case "throw-thread" -> {
                Thread thread = new Thread(() -> { throw new RuntimeException("in a thread"); });
                thread.start();
                thread.join();
            }
            case "handler" -> {
                Thread.setDefaultUncaughtExceptionHandler((thread, e) -> System.out.println(thread.getName() + e));
                throw new Exception("x");
            }
            case "hook" -> Runtime.getRuntime().addShutdownHook(
                    new Thread(() -> System.out.println("hook")));
            case "hook-signal" -> {
                Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("hook")));
                kill("TERM");
            }
            case "killed" -> kill("KILL");
            case "daemon" -> {
                Thread thread = new Thread(() -> { while (true) Thread.onSpinWait(); });
                thread.setDaemon(true);
                thread.start();
            }
            case "pool" -> {
                ExecutorService pool = Executors.newFixedThreadPool(3);
                List<Callable<Integer>> work = List.of(() -> 1, () -> 2);
                for (Future<Integer> each : pool.invokeAll(work)) System.out.println(each.get());
                pool.shutdown();
            }
            case "overflow" -> {
                try {
                    deep(0);
                } catch (StackOverflowError e) {
                    System.out.println(e + " " + e.getStackTrace().length);
                }
            }
            case "heap" -> {
                System.out.println(new byte[Integer.MAX_VALUE - 8].length);
            }
            case "memory" -> {
                // Within the heap and within what buffers may take, but not both at once.
                List<Object> all = new ArrayList<>();
                for (int i = 0; i < 40; i++) {
                    all.add(ByteBuffer.allocateDirect(8 << 20).put(new byte[8 << 20]));
                    all.add(new byte[8 << 20]);
                }
                System.out.println(all.size());
            }
            case "cpu" -> { while (true) Thread.onSpinWait(); }
            case "machine" -> {
                Runtime runtime = Runtime.getRuntime();
                System.out.println(runtime.maxMemory() + " " + runtime.totalMemory());
                System.out.println(runtime.availableProcessors());
            }
            case "threads" -> Thread.getAllStackTraces().keySet().stream().map(
                    thread -> thread + " " + thread.getId() + thread.isDaemon()).sorted().forEach(System.out::println);
            case "main-thread" -> System.out.println(Thread.currentThread() + " "
                    + Thread.currentThread().getContextClassLoader().getName() + Thread.currentThread().getId());
            case "frames" -> System.out.println(Arrays.toString(new Throwable().getStackTrace()));
            case "loaders" -> {
                for (ClassLoader at = Main.class.getClassLoader(); at != null; at = at.getParent())
                    System.out.println(at.getName());
                System.out.println(Main.class.getModule() + " " + ModuleLayer.boot().modules().size()
                        + Main.class.getProtectionDomain().getCodeSource().getLocation());
            }
            case "resource" -> {
                System.out.println(new String(Main.class.getResourceAsStream("d/data.txt").readAllBytes()));
                System.out.println(Files.readString(Path.of("d/data.txt")) + Main.class.getResource("/nothing"));
            }
            case "other-class" -> System.out.println(Class.forName("Nowhere"));
            case "files" -> {
                Path file = Files.writeString(Path.of("out.txt"), "text");
                System.out.println(Files.size(file) + Files.getPosixFilePermissions(file).toString()
                        + Files.getOwner(file) + File.createTempFile("abc", "").getParent());
            }
            case "locale" -> System.out.println(Locale.getDefault() + " " + Charset.defaultCharset()
                    + TimeZone.getDefault().getID() + String.format("%,d %.2f", 12345, 1.5) + new Date(0));
            case "child" -> {
                String seen = "env | grep -v ^_ | sort; pwd; ls -l /proc/self/fd | wc -l";
                ProcessBuilder builder = new ProcessBuilder("sh", "-c", seen);
                builder.environment().put("MORE", "1");
                builder.inheritIO().start().waitFor();
            }
            case "child-input" -> System.out.println(new ProcessBuilder("cat").redirectInput(
                    ProcessBuilder.Redirect.INHERIT).redirectOutput(ProcessBuilder.Redirect.INHERIT).start().waitFor());
            case "child-java" -> {
                String java = ProcessHandle.current().info().command().get();
                System.out.println(java);
                ProcessBuilder builder = new ProcessBuilder(java, "-XX:+UseSerialGC", "-cp", ".", "Main");
                builder.environment().put("MODE", "hello");
                System.out.println(builder.inheritIO().start().waitFor());
            }
            case "network" -> new Socket("127.0.0.1", 9);
            case "status" -> System.out.println(lines(Path.of("/proc/self/status"),
                    "(Uid|Gid|Groups|Cap\\w+|NoNewPrivs|Seccomp|Umask|Sig(Blk|Ign)):.*"));
            case "limits" -> System.out.println(Files.readString(Path.of("/proc/self/limits")));
            case "descriptors" -> {
                try (Stream<Path> all = Files.list(Path.of("/proc/self/fd"))) {
                    all.map(Main::target).sorted().forEach(System.out::println);
                }
            }
            case "chance" -> System.out.println(Math.random() + " " + UUID.randomUUID() + " "
                    + new java.security.SecureRandom().nextLong() + " " + new Random().nextLong());
            case "command-line" -> System.out.println(Files.readString(Path.of("/proc/self/cmdline")));
            case "environ" -> System.out.println(Files.readString(Path.of("/proc/self/environ")));
            case "agent" -> System.out.println(Files.exists(Path.of("/opt/sandboxd/java")));
            default -> throw new IllegalArgumentException(mode);
        }
    }

    public static void main(String[] args) throws Exception {
        run(System.getenv("MODE"), args);
    }
}
