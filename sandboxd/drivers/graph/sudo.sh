#!/bin/sh
# A sandbox has one user, and no way to be another: the command runs as who says sudo. Options that name a
# user, a group or a prompt are taken and mean nothing.
while [ $# -gt 0 ]; do
	case $1 in
	--) shift && break ;;
	-u | -g | -p | -h | -U | -C | -D | -R | -T) shift 2 || exit 1 ;;
	-V | --version) echo 'sudo: a stand-in; the sandbox has one user' && exit 0 ;;
	-l | -v | -k | -K) shift ;;
	-i | -s) shift && [ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}" ;;
	-*) shift ;;
	*=*) export "$1" && shift ;;
	*) break ;;
	esac
done
[ $# -eq 0 ] || exec "$@"
