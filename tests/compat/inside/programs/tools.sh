# What shell scripts use, each step's answer printed.
set -eu
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git init -q -b main r && cd r
git config user.name n && git config user.email e@x
echo one > f && git add f && git commit -q -m one
git checkout -q -b side && echo two >> f && git commit -qam two
git checkout -q main && echo zero > g && git add g && git commit -q -m zero
git merge -q -m merged side && git log --oneline --graph | wc -l && git fsck --strict && git gc -q
git clone -q . ../clone && git -C ../clone rev-parse HEAD
cd ..
sqlite3 d.db 'pragma journal_mode=wal; create table t(a, b); insert into t values (1, "x"), (2, "y");
	select sum(a), group_concat(b) from t; pragma integrity_check;'
mkdir -p tree/a/b && seq 1 2000 > tree/a/numbers && ln -s numbers tree/a/link && ln tree/a/numbers tree/a/b/hard
tar -czf t.tgz tree && mkdir out && tar -xzf t.tgz -C out && diff -r tree out/tree && tar -tzf t.tgz | sort
tar -cJf t.txz tree && xz -t t.txz && gzip -l t.tgz | wc -l
printf 'all: a b c\na b c:\n\t@sleep 0.1; echo made $@ > $@\n' > Makefile && make -s -j3 && cat a b c
find tree -type f -print0 | xargs -0 -n1 -P2 wc -l | sort
seq 1 50000 | shuf --random-source=Makefile | sort -n --parallel=2 | awk '{s += $1} END {print s}'
mkfifo p && (echo through a fifo > p &) && cat p
(trap 'echo trapped' TERM; kill -TERM $BASHPID; sleep 0.1)
flock lock -c 'echo locked' && timeout 0.1 sleep 5 || echo "timeout $?"
nice -n 5 true && nohup true 2>/dev/null && ulimit -n 64 && ulimit -n
diff <(echo a) <(echo b) || echo "process substitution"
env -i /usr/bin/env | wc -l; id -un; hostname; date -u -d @0 +%F; df /tmp >/dev/null && stat -c %a tree
