# Archives and copies keep what a tree has: holes, links, modes, times.
set -e
umask 022
mkdir -p tree/deep/er tree/empty
echo content > tree/file
printf '#!/bin/sh\n' > tree/deep/er/script
chmod 755 tree/deep/er/script
echo secret > tree/deep/shut
chmod 600 tree/deep/shut
ln -s ../file tree/deep/link
ln tree/file tree/deep/hard
seq 300000 > tree/large
truncate -s 3M tree/sparse
printf x | dd of=tree/sparse bs=1 seek=1M conv=notrunc status=none
find tree -exec touch -h -d @1111111111 {} +
tar -cSf a.tar tree
mkdir one
tar -xpf a.tar -C one
cp -a --reflink=auto --sparse=auto tree two
cp -al tree three
mkdir four
(cd tree && tar -cf - .) | (cd four && tar -xf -)
rsync -aHS --delete tree/ five/
rsync -aHS --delete --itemize-changes tree/ five/
rsync -aH --delete --inplace four/ five/
for copy in one/tree two three four five; do
    diff -r tree $copy
    (cd $copy; find . -type d -printf '%p %M %T@\n' -o -printf '%p %M %s %n %T@ %l\n' | sort)
done
rm a.tar
