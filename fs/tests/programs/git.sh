# A repository is made, cloned, packed and checked. Its index holds inode numbers and times: it is removed.
set -e
export HOME=/ GIT_AUTHOR_DATE='@1000000000 +0000' GIT_COMMITTER_DATE='@1000000000 +0000'
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
git init -q -b main repository
cd repository
for n in 1 2 3 4 5 6 7 8 9; do
    mkdir -p d$n
    seq $n 1000 > d$n/f
    ln -s f d$n/link
done
chmod +x d3/f
git add .
git commit -q -m one
git mv d1 moved
echo x >> d2/f
git commit -q -a -m two
git status --short
echo y >> d4/f
git stash -q
git status --short
git stash pop -q
git status --short
git reset -q --hard
git checkout -q -b other HEAD~
git status --short
git merge -q main
git gc -q
git fsck --strict
git status --short
cd ..
git clone -q --no-local repository clone
git clone -q --local repository local
cd clone
git status --short
git log --oneline | cat
git -c core.preloadIndex=true diff --stat
cd ..
find . -name .git -prune -o -type f -print | sort | xargs sha256sum
rm -rf repository/.git clone/.git local/.git
