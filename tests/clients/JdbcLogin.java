import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;
import java.util.concurrent.CompletableFuture;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Through JDBC; see README.md. Run as a source file: nothing is compiled beforehand. */
class JdbcLogin {
    static final String QUERY = "select 6 * 7, current_user::text, pg_backend_pid(),"
        + " (select ssl from pg_stat_ssl where pid = pg_backend_pid())";
    static final long PATIENCE_MS = 20_000;

    public static void main(String[] arguments) throws Exception {
        String told = new BufferedReader(new InputStreamReader(System.in)).readLine();
        String roots = field(told, "roots");
        Properties settings = new Properties();
        settings.setProperty("user", field(told, "user"));
        settings.setProperty("password", field(told, "password"));
        settings.setProperty("gssEncMode", "disable");
        settings.setProperty("sslmode", roots == null ? "disable" : "verify-full");
        if (roots != null) {
            settings.setProperty("sslrootcert", roots);
        }
        String url = "jdbc:postgresql://" + field(told, "address") + ":" + field(told, "port") + "/"
            + field(told, "database");
        try (Connection one = DriverManager.getConnection(url, settings);
             Connection other = DriverManager.getConnection(url, settings)) {
            String head;
            int pid;
            String tail;
            try (Statement statement = one.createStatement(); ResultSet row = statement.executeQuery(QUERY)) {
                row.next();
                head = "{\"answer\": " + row.getInt(1) + ", \"user\": \"" + row.getString(2) + "\"";
                pid = row.getInt(3);
                tail = ", \"server_tls\": " + row.getBoolean(4) + "}";
            }
            Statement sleeper = one.createStatement();
            CompletableFuture<String> state = CompletableFuture.supplyAsync(() -> {
                try {
                    sleeper.execute("select pg_sleep(30)");
                    return "00000";
                } catch (SQLException error) {
                    return error.getSQLState();
                }
            });
            String sleeps = "select count(*) from pg_stat_activity where pid = " + pid + " and wait_event = 'PgSleep'";
            long deadline = System.currentTimeMillis() + PATIENCE_MS;
            while (number(other, sleeps) == 0) {
                if (System.currentTimeMillis() > deadline) {
                    throw new IllegalStateException("the statement to cancel never began");
                }
                Thread.sleep(5);
            }
            sleeper.cancel();
            String cancel = ", \"cancel\": \"" + state.get() + "\"";
            String after = ", \"after\": " + number(one, "select 43");
            System.out.println(head + cancel + after + tail);
        }
    }

    static int number(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery(sql)) {
            row.next();
            return row.getInt(1);
        }
    }

    /** A field of flat JSON without escapes, as the tests write it; null for null. */
    static String field(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\":\\s*(?:\"([^\"]*)\"|(\\d+))").matcher(json);
        if (!found.find()) {
            return null;
        }
        return found.group(1) != null ? found.group(1) : found.group(2);
    }
}
