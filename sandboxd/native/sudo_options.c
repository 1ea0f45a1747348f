/* What people write behind sudo and su, as one command. */
#include "sudo.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char PATH[] =
	"PATH=/opt/sandboxd/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/* What a command of another user keeps without -E: the terminal, the language, and what programs
 * need to reach the network as this sandbox may. */
static const char *const kept[] = {
	"TERM",
	"COLORTERM",
	"LANG",
	"LANGUAGE",
	"LC_*",
	"TZ",
	"DISPLAY",
	"XAUTHORITY",
	"DEBIAN_FRONTEND",
	"SSL_CERT_FILE",
	"SSL_CERT_DIR",
	"REQUESTS_CA_BUNDLE",
	"CURL_CA_BUNDLE",
	"NODE_EXTRA_CA_CERTS",
	"http_proxy",
	"https_proxy",
	"no_proxy",
	"HTTP_PROXY",
	"HTTPS_PROXY",
	"NO_PROXY",
};

static bool named(const char *variable, const char *name)
{
	const size_t length = strlen(name);

	if (name[length - 1] == '*')
		return strncmp(variable, name, length - 1) == 0;
	return strncmp(variable, name, length) == 0 && variable[length] == '=';
}

static bool keeps(const char *variable, const char *more)
{
	char list[4096], *rest, *name;

	for (size_t i = 0; i < sizeof(kept) / sizeof(*kept); i++)
		if (named(variable, kept[i]))
			return true;
	snprintf(list, sizeof(list), "%s", more);
	for (name = strtok_r(list, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest))
		if (named(variable, name))
			return true;
	return false;
}

static size_t count(char *const *words)
{
	size_t number = 0;

	while (words[number] != NULL)
		number++;
	return number;
}

/* The last of two of a name is the one that holds. */
static void put(char **variables, char *wanted)
{
	const size_t length = strcspn(wanted, "=") + 1;

	while (*variables != NULL && strncmp(*variables, wanted, length) != 0)
		variables++;
	*variables = wanted;
}

static char **environment(bool everything, const char *more, size_t room)
{
	char **result = calloc(count(environ) + room + 2, sizeof(*result));

	if (result == NULL)
		exit(1);
	for (char **variable = environ; *variable != NULL; variable++)
		if (everything || keeps(*variable, more))
			put(result, *variable);
	return result;
}

/* The words as one text that a shell reads as them. */
static char *quoted(char *const *words)
{
	size_t size = 1;
	char *text, *at;

	for (size_t i = 0; words[i] != NULL; i++)
		size += 2 * strlen(words[i]) + 3;
	at = text = malloc(size);
	if (text == NULL)
		exit(1);
	for (size_t i = 0; words[i] != NULL; i++) {
		if (i > 0)
			*at++ = ' ';
		for (const char *from = words[i]; *from; from++) {
			if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
				   "-$",
				   *from) == NULL)
				*at++ = '\\';
			*at++ = *from;
		}
	}
	*at = 0;
	return text;
}

static void use_shell(struct sudo_command *command, char *script)
{
	char **arguments = calloc(4, sizeof(*arguments));

	if (arguments == NULL)
		exit(1);
	arguments[0] = (char *)"";
	if (script != NULL) {
		arguments[1] = (char *)"-c";
		arguments[2] = script;
	}
	command->arguments = arguments;
}

static _Noreturn void say(const char *text)
{
	puts(text);
	exit(0);
}

static _Noreturn void misuse(const char *name)
{
	fprintf(stderr,
		name[2] ? "usage: sudo [-bEHins] [-u user] [-g group] [-D directory] [VAR=value] "
			  "[command]\n"
			: "usage: su [-] [-c command] [-s shell] [-m] [user [argument...]]\n");
	exit(1);
}

void sudo_options(struct sudo_command *command, int argc, char **argv)
{
	static const struct option longs[] = {
		{"user", required_argument, NULL, 'u'},
		{"group", required_argument, NULL, 'g'},
		{"login", no_argument, NULL, 'i'},
		{"shell", no_argument, NULL, 's'},
		{"set-home", no_argument, NULL, 'H'},
		{"preserve-env", optional_argument, NULL, 'E'},
		{"non-interactive", no_argument, NULL, 'n'},
		{"background", no_argument, NULL, 'b'},
		{"chdir", required_argument, NULL, 'D'},
		{"stdin", no_argument, NULL, 'S'},
		{"prompt", required_argument, NULL, 'p'},
		{"validate", no_argument, NULL, 'v'},
		{"list", no_argument, NULL, 'l'},
		{"version", no_argument, NULL, 'V'},
		{"reset-timestamp", no_argument, NULL, 'k'},
		{"remove-timestamp", no_argument, NULL, 'K'},
		{NULL, 0, NULL, 0},
	};
	bool everything = false, set_home = false, shell = false, forget = false, check = false;
	const char *more = "", *directory = NULL;
	char **words;
	int option;

	while ((option = getopt_long(argc, argv, "+AbBC:D:Eg:Hh:iKklNnPp:R:r:SsT:t:U:u:Vv", longs,
				     NULL)) != -1) {
		switch (option) {
		case 'u':
			command->user = optarg;
			break;
		case 'g':
			command->group = optarg;
			break;
		case 'D':
			directory = optarg;
			break;
		case 'i':
			command->flags |= SUDO_LOGIN;
			break;
		case 's':
			shell = true;
			break;
		case 'H':
			set_home = true;
			break;
		case 'b':
			command->background = true;
			break;
		case 'E':
			if (optarg != NULL)
				more = optarg;
			else
				everything = true;
			break;
		case 'K':
		case 'k':
			forget = true;
			break;
		case 'v':
			check = true;
			break;
		case 'V':
			say("sudo of sandboxd: root inside the sandbox, nobody outside");
		case 'l':
			say("User user may run the following commands on sandbox:\n    (ALL : ALL) "
			    "NOPASSWD: ALL");
		case '?':
			misuse(command->name);
		default:
			break; /* about passwords, hosts and roles, of which there are none */
		}
	}
	words = argv + optind;
	command->environment = environment(everything, more, count(words));
	for (; *words != NULL && strchr(*words, '=') != NULL && **words != '=' && **words != '/';
	     words++)
		put(command->environment, *words);
	if (!everything || set_home || command->flags & SUDO_LOGIN)
		command->flags |= SUDO_SET_HOME;
	command->flags |= SUDO_NAME;
	if (!everything)
		put(command->environment, (char *)(uintptr_t)PATH);
	if (*words == NULL && !shell && !(command->flags & SUDO_LOGIN)) {
		if (forget || check)
			exit(0);
		misuse(command->name);
	}
	if (directory != NULL && chdir(directory) != 0) {
		perror(directory);
		exit(1);
	}
	command->arguments = words;
	if (shell && !(command->flags & SUDO_LOGIN) && getenv("SHELL") != NULL) {
		use_shell(command, *words ? quoted(words) : NULL);
		command->program = command->arguments[0] = getenv("SHELL");
	} else if (shell || command->flags & SUDO_LOGIN) {
		command->flags |= SUDO_SHELL;
		use_shell(command, *words ? quoted(words) : NULL);
	}
}

void su_options(struct sudo_command *command, int argc, char **argv)
{
	static const struct option longs[] = {
		{"login", no_argument, NULL, 'l'},
		{"command", required_argument, NULL, 'c'},
		{"shell", required_argument, NULL, 's'},
		{"preserve-environment", no_argument, NULL, 'm'},
		{"group", required_argument, NULL, 'g'},
		{NULL, 0, NULL, 0},
	};
	char *script = NULL, **rest, **arguments;
	bool same = false;
	size_t at = 1;
	int option;

	while ((option = getopt_long(argc, argv, "c:flmpg:s:", longs, NULL)) != -1) {
		switch (option) {
		case 'c':
			script = optarg;
			break;
		case 'l':
			command->flags |= SUDO_LOGIN;
			break;
		case 's':
			command->program = optarg;
			break;
		case 'm':
		case 'p':
			same = true;
			break;
		case 'g':
			command->group = optarg;
			break;
		case '?':
			misuse(command->name);
		default:
			break;
		}
	}
	rest = argv + optind;
	if (*rest != NULL && strcmp(*rest, "-") == 0) {
		command->flags |= SUDO_LOGIN;
		rest++;
	}
	if (*rest != NULL)
		command->user = *rest++;
	command->environment = environment(!(command->flags & SUDO_LOGIN), "", 0);
	if (command->flags & SUDO_LOGIN)
		put(command->environment, (char *)(uintptr_t)PATH);
	if (!same)
		command->flags |= SUDO_SET_HOME | SUDO_NAME;
	if (*command->program == 0)
		command->flags |= SUDO_SHELL;
	arguments = calloc(count(rest) + 4, sizeof(*arguments));
	if (arguments == NULL)
		exit(1);
	arguments[0] = (char *)(uintptr_t)command->program;
	if (script != NULL) {
		arguments[at++] = (char *)"-c";
		arguments[at++] = script;
	}
	memcpy(arguments + at, rest, count(rest) * sizeof(*rest));
	command->arguments = arguments;
}
