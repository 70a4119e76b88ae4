# Connections to a database in WAL mode, whose index is a shared mapping, of threads and of processes.
set -e
cat > try.py <<'END'
import sqlite3, subprocess, sys, threading
def connect(): return sqlite3.connect('base', timeout=60, isolation_level=None)
if len(sys.argv) > 1:
    one = connect()
    for n in range(50): one.execute('insert into t values (?, ?)', (sys.argv[1], n))
    sys.exit()
one = connect()
print(one.execute('pragma journal_mode = wal').fetchone())
one.execute('create table t (who text, n int)')
def insert(who):
    two = connect()
    for n in range(50): two.execute('insert into t values (?, ?)', (who, n))
threads = [threading.Thread(target=insert, args=(w,)) for w in 'abc']
others = [subprocess.Popen([sys.executable, sys.argv[0], w]) for w in 'xyz']
for t in threads: t.start()
for t in threads: t.join()
print([o.wait() for o in others])
print(one.execute('pragma integrity_check').fetchall())
print(one.execute('select who, count(*), sum(n) from t group by who').fetchall())
print(one.execute('pragma wal_checkpoint(truncate)').fetchone()[0])
one.close()
END
python3 -B try.py
ls
rm -f base
