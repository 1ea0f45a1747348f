import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.Executors;
import java.util.stream.IntStream;

public class Server {
    public static void main(String[] args) throws Exception {
        var server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.createContext("/", exchange -> {
            var body = ("hello " + exchange.getRequestURI()).getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        var uri = URI.create("http://127.0.0.1:" + server.getAddress().getPort() + "/x");
        var client = HttpClient.newHttpClient();
        var request = HttpRequest.newBuilder(uri).build();
        System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).body());
        server.stop(0);
        System.out.println(IntStream.range(0, 100000).parallel().asLongStream().sum());
        var pool = Executors.newFixedThreadPool(4);
        System.out.println(pool.submit(() -> 42).get());
        pool.shutdown();
        try (var channel = FileChannel.open(Path.of("m"), StandardOpenOption.CREATE, StandardOpenOption.READ,
                StandardOpenOption.WRITE)) {
            var map = channel.map(FileChannel.MapMode.READ_WRITE, 0, 4096);
            map.putInt(0, 7);
            map.force();
            channel.lock().release();
        }
        System.out.println(Files.size(Path.of("m")));
        var child = new ProcessBuilder("/bin/echo", "child").inheritIO().start();
        System.out.println(child.waitFor());
        System.exit(0);
    }
}
